"""Run notebooks as regression: check parameters, execute, judge, report, and on request renew the committed outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from tqdm import tqdm

from eqprop_lab.regression.baseline import Baseline, compare, load_baseline, rebaseline
from eqprop_lab.regression.clean import CleanError, committed_copy, source_hash
from eqprop_lab.regression.execute import Execution, execute_all
from eqprop_lab.regression.files import drop_figures, ensure_writable, publish_figures, write_text
from eqprop_lab.regression.outputs import hidden_errors, metrics_of, provenance_of
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.plan import Options, Plan, jobs_of, plan_notebook
from eqprop_lab.regression.report import NotebookResult, write_reports


@dataclass
class Run:
    """The results of a run in the order of the notebooks, its report, and what stopped the report (`error`)."""

    results: list[NotebookResult]
    report: Path | None = None
    interrupted: bool = False
    lines: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def green(self) -> bool:
        """True when every notebook passed."""
        return not self.interrupted and self.error is None and all(result.status == "passed" for result in self.results)


def judge(execution: Execution, plan: Plan, baseline: Baseline, options: Options) -> NotebookResult:
    """Turn an execution into a result: cell errors, hidden errors, thread errors, metrics against the baseline."""
    job = execution.job
    result = NotebookResult(job.key, job.notebook.stem, "failed", execution.seconds, parameters=dict(job.parameters))
    result.seed = job.parameters.get("seed")
    result.problems = ([execution.error] if execution.error else []) + list(dict.fromkeys(execution.thread_errors))
    if not job.output.exists():
        result.problems = result.problems or ["no executed notebook was written"]
        return result
    result.executed = job.output.relative_to(options.output).as_posix()
    executed = nbformat.read(job.output, as_version=4)
    result.metrics, wrong = metrics_of(executed)
    result.provenance = provenance_of(executed)
    if execution.error is None:
        hidden = hidden_errors(executed)
        result.problems += [p for p in hidden if not (execution.thread_errors and "Exception in thread" in p)]
        result.problems += wrong or _baseline_problems(result, plan, baseline, options)
    result.status = "failed" if result.problems else "passed"
    return result


def _baseline_problems(result: NotebookResult, plan: Plan, baseline: Baseline, options: Options) -> list[str]:
    if not result.metrics:
        return ["no metric was recorded: a notebook without a number cannot notice a wrong gradient"]
    if options.rebaseline:
        return []
    entries = baseline.get(plan.path.stem)
    if entries is None:
        if options.update:
            result.notes.append("no baseline yet: run with --seeds 0,1,2,3,4 --rebaseline")
            return []
        return [f"no baseline for {plan.path.stem}; run with --seeds 0,1,2,3,4 --rebaseline"]
    compared = options.profile == "smoke" and plan.changed <= {"seed", "profile"}
    if not compared:
        result.notes.append("values not compared: the baseline belongs to the smoke profile and default parameters")
    return compare(result.metrics, entries, values=compared)


def publish(result: NotebookResult, plan: Plan, options: Options) -> None:
    """Rewrite the committed outputs and figures of a green notebook; a copy that may not be committed turns it red."""
    executed = nbformat.read(options.output / result.executed, as_version=4)
    try:
        if source_hash(nbformat.read(plan.path, as_version=4)) != source_hash(plan.source):
            raise CleanError("the notebook was edited during the run; run it again")
        copy = committed_copy(plan.source, executed, options.root)
        write_text(plan.path, nbformat.writes(copy) + "\n")
        figures = publish_figures(options.output / "figures", options.root / "figures", result.notebook)
    except (CleanError, OSError) as error:
        result.status = "failed"
        result.problems.append(f"not updated: {error}")
        return
    result.notes.append(f"committed outputs rewritten, {len(figures)} figures")


def run_notebooks(paths: Sequence[Path], options: Options) -> Run:
    """Run the notebooks and write the report. Everything that can be wrong before is raised before any work.

    Raises ParameterError, BaselineError, FolderError. An interrupted run returns too, with what had finished.
    """
    plans = {path.stem: plan_notebook(path, options) for path in paths}
    if options.update and (options.profile != "smoke" or options.seeds or any(p.changed for p in plans.values())):
        raise ParameterError("--update needs the smoke profile and the default parameters")
    baseline = load_baseline(options.baseline)
    jobs = jobs_of(list(plans.values()), options)
    for folder in (options.output / "notebooks", options.output / "figures"):
        ensure_writable(folder)
    finished: dict[str, NotebookResult] = {}
    for plan in plans.values():
        drop_figures(options.output / "figures", plan.path.stem)
    cells = sum(len(nbformat.read(job.notebook, as_version=4).cells) + bool(job.parameters) for job in jobs)
    interrupted = False
    with tqdm(total=cells, unit="cell", disable=None if options.progress_bar else True, leave=False) as bar:

        def done(execution: Execution) -> None:
            plan = plans[execution.job.notebook.stem]
            result = finished[execution.job.key] = judge(execution, plan, baseline, options)
            if options.update and result.status == "passed":
                publish(result, plan, options)
            bar.set_postfix_str(f"{result.key} {result.status}")

        def advance(total: int) -> None:
            bar.update(total - bar.n)

        try:
            execute_all(jobs, options.output / "logs", options.jobs, done, advance)
        except KeyboardInterrupt:
            interrupted = True
    results = [
        finished.get(job.key) or NotebookResult(job.key, job.notebook.stem, "not run", problems=["interrupted"])
        for job in jobs
    ]
    run = Run(results, interrupted=interrupted)
    try:
        run.report = write_reports(results, options.output, options.profile)
    except OSError as error:
        # The table of what was computed is still printed; the executed notebooks are on disk already.
        run.error = f"cannot write the report to {options.output}: {error.strerror or error}"
        return run
    if options.rebaseline and run.green:
        run.lines = rebaseline(baseline, _by_seed(results), options.baseline)
    return run


def _by_seed(results: Sequence[NotebookResult]) -> dict[str, dict[int, dict[str, float]]]:
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for result in results:
        runs.setdefault(result.notebook, {})[int(result.seed or 0)] = result.metrics
    return runs
