"""Does the regression notice a wrong package? The probe notebook runs on mutated copies and has to
turn red.
"""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from eqprop_lab.regression.baseline import read_baseline
from eqprop_lab.regression.execute import Execution, Job, execute_all, kernel_count
from eqprop_lab.regression.plan import Options, Plan, jobs_of, plan_notebook
from eqprop_lab.regression.report import NotebookResult
from eqprop_lab.regression.runner import judge
from tests.regression.tiny import options

# name: (file of the package, text, its replacement, a metric or message that has to notice)
MUTATIONS: dict[str, tuple[str, str, str, str]] = {
    "none": ("__init__.py", "", "", ""),
    "one_over_beta_dropped": (
        "equilibrium/contrast.py",
        "(-k / (moved.beta * batch))",
        "(-k / batch)",
        "gradient_error",
    ),
    "sign_flipped": (
        "equilibrium/contrast.py",
        "(-k / (moved.beta * batch))",
        "(k / (moved.beta * batch))",
        "gradient_error",
    ),
    "phases_swapped": (
        "equilibrium/phases.py",
        "nudge = CostNudge(model, cost_grad, (beta, -beta))",
        "nudge = CostNudge(model, cost_grad, (-beta, beta))",
        "gradient_error",
    ),
    "weight_transposed": (
        "models/looped_mlp.py",
        "into.T @ as_vectors(x, self.input_dim)",
        "(as_vectors(x, self.input_dim).T @ into).reshape(self.W_in.weight.shape)",
        "gradient_error",
    ),
    "symmetry_lost": (
        "equilibrium/linear_maps.py",
        "return matrix.mT.clone(memory_format=torch.contiguous_format).add_(matrix).mul_(0.5)",
        "return matrix",
        "force_asymmetry",
    ),
    # At a small beta the midpoint of the two states and the free state are the same to O(beta)
    # (one_sided), O(beta^2) (centered); at 0.5 the gradient of W_rec is another one, and only the
    # midpoint is the difference of the energies.
    "free_state_for_the_midpoint_one_sided": (
        "equilibrium/phases.py",
        "mean = tuple((p + f) / 2 for p, f in zip(nudged.state, free.state, strict=True))",
        "mean = free.state",
        "one_sided_error",
    ),
    "free_state_for_the_midpoint_centered": (
        "equilibrium/phases.py",
        "difference, mean = _halves(nudged.state)",
        "difference, mean = _half(nudged.state), free.state",
        "centered_error",
    ),
    # Calls that name their nudged_steps cannot see it: at rho 0.8 three steps are 2 to 10 % off,
    # ten 0.06 % at most.
    "three_nudged_steps_by_default": (
        "equilibrium/contract.py",
        "nudged_steps: int = 10",
        "nudged_steps: int = 3",
        "default_steps_error",
    ),
    # kappa is 1 where the shipped models are read out, and a plain step adds the pull by a quicker
    # way: `asymmetric` calls the nudge and weights it with kappa, so that at kappa 2.5 the gradient
    # becomes 2.5 times itself.
    "kappa_dropped_in_a_nudge": (
        "equilibrium/contract.py",
        "return tuple(None if p is None else p / k for p, k in pulls)",
        "return tuple(None if p is None else p for p, k in pulls)",
        "weighted_error",
    ),
    "sign_of_the_nudge_flipped": (
        "equilibrium/state.py",
        "factor = -gain",
        "factor = gain",
        "gradient_error",
    ),
    "explorer_raises": (
        "notebook/explorer.py",
        "data = self.compute(**values)",
        "data = self.compute(values)",
        "TypeError",
    ),
    "explorer_stuck": (
        "notebook/live.py",
        "self._controls.assign(self._controls.check(values))",
        "self._controls.check(values)",
        "explorer_moved",
    ),
}


def mutated(package: Path, mutation: tuple[str, str, str, str]) -> str:
    """The source of a file with one text replaced; fails when that is not there exactly once."""
    file, text, replacement, _ = mutation
    source = (package / file).read_text(encoding="utf-8")
    count = source.count(text) if text else 1
    assert count == 1, f"{file} holds {text!r} {count} times: choose the text of this mutation anew"
    return source.replace(text, replacement) if text else source


def mutated_copy(package: Path, folder: Path, mutation: tuple[str, str, str, str]) -> Path:
    """A copy of the package in `folder`, mutated."""
    source = mutated(package, mutation)
    shutil.copytree(package, folder / "eqprop_lab")
    (folder / "eqprop_lab" / mutation[0]).write_text(source, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, NotebookResult]:
    """The probe on every mutated copy; the copies stand first on the path of their kernels."""
    base = tmp_path_factory.mktemp("mutations")
    probe = root / "tests" / "regression" / "probe.ipynb"
    prepared: dict[str, tuple[Options, Plan]] = {}
    jobs: list[Job] = []
    for name, mutation in MUTATIONS.items():
        copy = mutated_copy(root / "eqprop_lab", base / name, mutation)
        chosen = options(root, output=base / name / "runs", env={"PYTHONPATH": str(copy)})
        (chosen.output / "notebooks").mkdir(parents=True)
        plan = plan_notebook(probe, chosen)
        prepared[name] = (chosen, plan)
        jobs += [replace(job, key=name) for job in jobs_of([plan], chosen)]
    baseline = read_baseline(root / "tests" / "regression" / "baseline.json")
    found: dict[str, NotebookResult] = {}

    def done(execution: Execution) -> None:
        chosen, plan = prepared[execution.job.key]
        found[execution.job.key] = judge(execution, plan, baseline, chosen)

    execute_all(jobs, base / "logs", kernel_count(None), done)
    return found


@pytest.mark.kernel
def test_the_probe_is_green_on_an_unchanged_copy(outcomes: dict[str, NotebookResult]) -> None:
    assert outcomes["none"].status == "passed", outcomes["none"].problems


@pytest.mark.kernel
@pytest.mark.parametrize("name", [name for name in MUTATIONS if name != "none"])
def test_a_mutated_package_turns_the_probe_red(
    outcomes: dict[str, NotebookResult], name: str
) -> None:
    result = outcomes[name]
    assert result.status == "failed"
    assert any(MUTATIONS[name][3] in problem for problem in result.problems), result.problems


@pytest.mark.parametrize("name", [name for name in MUTATIONS if name != "none"])
def test_the_text_of_a_mutation_is_there_and_what_replaces_it_is_python(
    name: str, root: Path
) -> None:
    ast.parse(mutated(root / "eqprop_lab", MUTATIONS[name]))


def test_a_mutation_whose_text_is_gone_says_so(root: Path) -> None:
    with pytest.raises(AssertionError, match="holds 'no such text' 0 times"):
        mutated(root / "eqprop_lab", ("__init__.py", "no such text", "", ""))
