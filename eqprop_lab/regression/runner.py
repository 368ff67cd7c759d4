"""Run notebooks as regression: check, execute, judge, report; on request renew the committed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import nbformat
from tqdm import tqdm

from eqprop_lab.regression.baseline import (
    Baseline,
    compare,
    entry_problems,
    read_baseline,
    rebaseline,
)
from eqprop_lab.regression.execute import Execution, Job, execute_all
from eqprop_lab.regression.folders import ensure_writable, locked
from eqprop_lab.regression.outputs import hidden_errors, metrics_of, provenance_of
from eqprop_lab.regression.parameters import NotebookError, ParameterError
from eqprop_lab.regression.plan import Options, Plan, jobs_of, key_of, name_of, plan_notebook
from eqprop_lab.regression.publish import committed, publish
from eqprop_lab.regression.report import NotebookResult, write_reports


@dataclass
class Run:
    """The results of a run in the order of the notebooks, its report, or what stopped that."""

    results: list[NotebookResult]
    report: Path | None = None
    interrupted: bool = False
    lines: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def green(self) -> bool:
        """True when every notebook passed."""
        stopped = self.interrupted or self.error is not None
        return not stopped and all(result.status == "passed" for result in self.results)


def judge(execution: Execution, plan: Plan, baseline: Baseline, options: Options) -> NotebookResult:
    """The result of an execution: errors of cells, threads, outputs, and metrics off baseline."""
    job = execution.job
    result = NotebookResult(
        job.key,
        plan.name,
        "failed",
        execution.seconds,
        [*filter(None, [execution.error]), *dict.fromkeys(execution.thread_errors)],
        parameters=dict(job.parameters),
        seed=job.parameters.get("seed"),
    )
    if not job.output.exists():
        result.problems = result.problems or ["no executed notebook was written"]
        return result
    result.executed = job.output.relative_to(options.output).as_posix()
    try:
        _look_inside(result, execution, plan, baseline, options)
    except Exception as error:
        # Whatever a notebook has put into its outputs, it spoils its own row and no other.
        reason = f"{type(error).__name__}: {error}"
        result.problems.append(f"{job.output.name} cannot be judged: {reason}")
    result.status = "failed" if result.problems else "passed"
    return result


def _look_inside(
    result: NotebookResult, execution: Execution, plan: Plan, baseline: Baseline, options: Options
) -> None:
    executed = nbformat.read(execution.job.output, as_version=4)
    result.metrics, wrong = metrics_of(executed)
    result.provenance = provenance_of(executed)
    if execution.error is None:
        hidden = hidden_errors(executed)
        result.problems += [
            p for p in hidden if not (execution.thread_errors and "Exception in thread" in p)
        ]
        result.problems += wrong or _baseline_problems(result, plan, baseline, options)


def _baseline_problems(
    result: NotebookResult, plan: Plan, baseline: Baseline, options: Options
) -> list[str]:
    if not result.metrics:
        return [
            "no metric was recorded: a notebook without a number cannot notice a wrong gradient"
        ]
    entries = baseline.get(plan.name)
    if entries is not None and (problems := entry_problems(plan.name, entries)):
        return problems
    if options.rebaseline:
        return []
    if entries is None:
        if options.update:
            result.notes.append("no baseline yet: run with --seeds 0,1,2,3,4 --rebaseline")
            return []
        return [f"no baseline for {plan.name}; run with --seeds 0,1,2,3,4 --rebaseline"]
    compared = options.profile == "smoke" and plan.changed <= {"seed", "profile"}
    if not compared:
        result.notes.append(
            "values not compared: the baseline belongs to the smoke profile and default parameters"
        )
    return compare(result.metrics, entries, values=compared)


def run_notebooks(paths: Sequence[Path], options: Options) -> Run:
    """Run the notebooks and write the report.

    What is wrong with the request is raised before any work. A notebook that cannot be run has a
    row that says why, and the others run. Raises ParameterError, BaselineError, FolderError (also
    where another run is at work in the same folder). An interrupted run returns too, with what had
    finished.
    """
    paths = list(dict.fromkeys(paths))
    plans, spoilt = plan_all(paths, options)
    if options.update and (
        options.profile != "smoke" or options.seeds or any(p.changed for p in plans.values())
    ):
        raise ParameterError("--update needs the smoke profile and the default parameters")
    baseline = read_baseline(options.baseline)
    jobs = jobs_of(list(plans.values()), options)
    with locked(options.output, "give another --output"), committed(options) as lines:
        for folder in (options.output / "notebooks", options.output / "figures"):
            ensure_writable(folder)
        finished, interrupted = _execute(jobs, plans, baseline, options)
        parts = ([spoilt[p]] if p in spoilt else _rows(p, jobs, finished) for p in paths)
        run = Run([*chain(*parts)], interrupted=interrupted, lines=list(lines))
        try:
            run.report = write_reports(run.results, options.output, options.profile)
        except OSError as error:
            # The table is still printed, and the executed notebooks are on the disk already.
            run.error = f"cannot write the report to {options.output}: {error.strerror or error}"
            return run
        if options.rebaseline and run.green:
            run.lines += rebaseline(baseline, _by_seed(run.results), options.baseline)
    return run


def plan_all(
    paths: Sequence[Path], options: Options
) -> tuple[dict[Path, Plan], dict[Path, NotebookResult]]:
    """The plans by path, and a red row for each notebook that cannot be run.

    Raises ParameterError for the request.
    """
    plans: dict[Path, Plan] = {}
    spoilt: dict[Path, NotebookResult] = {}
    for path in paths:
        try:
            plans[path] = plan_notebook(path, options)
        except NotebookError as error:
            spoilt[path] = NotebookResult(
                key_of(path, options.root),
                name_of(path, options.root),
                "failed",
                problems=[str(error)],
            )
    return plans, spoilt


def _execute(
    jobs: Sequence[Job], plans: Mapping[Path, Plan], baseline: Baseline, options: Options
) -> tuple[dict[str, NotebookResult], bool]:
    """(what has finished by key, whether the rest was interrupted)."""
    finished: dict[str, NotebookResult] = {}
    for job in jobs:
        if job.figures is not None:
            shutil.rmtree(job.figures, ignore_errors=True)
    cells = sum(len(plans[job.notebook].source.cells) + bool(job.parameters) for job in jobs)
    with tqdm(
        total=cells, unit="cell", disable=None if options.progress_bar else True, leave=False
    ) as bar:

        def done(execution: Execution) -> None:
            job = execution.job
            plan = plans[job.notebook]
            result = judge(execution, plan, baseline, options)
            if options.update and result.status == "passed":
                publish(result, plan, job, options)
            finished[job.key] = result
            bar.set_postfix_str(f"{result.key} {result.status}")

        def advance(total: int) -> None:
            bar.update(total - bar.n)

        try:
            execute_all(jobs, options.output / "logs", options.jobs, done, advance)
        except KeyboardInterrupt:
            return finished, True
    return finished, False


def _rows(
    path: Path, jobs: Sequence[Job], finished: Mapping[str, NotebookResult]
) -> Iterator[NotebookResult]:
    """What has become of the jobs of one notebook."""
    for job in jobs:
        if job.notebook == path:
            missing = NotebookResult(job.key, job.name, "not run", problems=["interrupted"])
            yield finished.get(job.key, missing)


def _by_seed(results: Sequence[NotebookResult]) -> dict[str, dict[int, dict[str, float]]]:
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for result in results:
        runs.setdefault(result.notebook, {})[int(result.seed or 0)] = result.metrics
    return runs
