"""One choice of device: what the package makes for itself says where it lies, and float64 is asked
for on the CPU.

Under torch.set_default_device("cuda") a tensor without a device lands on the GPU, beside a
generator of the CPU or a model that is elsewhere; MPS has no float64. Neither device is needed to
see it: the source says it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import eqprop_lab
from eqprop_lab import BackpropMLP, ConvEqProp, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.seeding import seeded

MAKERS = {
    "tensor",
    "as_tensor",
    "rand",
    "randn",
    "randint",
    "randperm",
    "arange",
    "zeros",
    "ones",
    "empty",
    "full",
}
MAKERS |= {"eye", "linspace", "logspace", "Generator"}
PACKAGE = Path(eqprop_lab.__file__).parent
# Programs of their own, and pictures: there the default device is the reader's choice.
ELSEWHERE = ("notebook/", "gpu/", "commands/gpu_check.py", "commands/verify")
# a new model lies where torch would put it
PARAMETERS = {("layered.py", "randn"), ("layered.py", "zeros")}
PARAMETERS |= {("directed.py", "empty"), ("directed.py", "ones")}
PARAMETERS |= {("full.py", "zeros"), ("recurrent.py", "zeros")}
PARAMETERS |= {("feedback.py", "randn"), ("layerwise.py", "randn"), ("base.py", "zeros")}
PARAMETERS |= {("equilibrium_alignment.py", "randn"), ("encoders.py", "full")}
PARAMETERS |= {("predictive_layer.py", "randn"), ("predictive_layer.py", "zeros")}
PARAMETERS |= {("gates.py", "zeros"), ("gates.py", "arange")}
PARAMETERS |= {("linear.py", "zeros"), ("linear.py", "arange"), ("lut_network.py", "tensor")}


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).as_posix().startswith(ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield file, node, node.func.attr


def test_every_tensor_of_the_package_names_its_device() -> None:
    found, bare = 0, []
    for file, node, name in calls():
        of_torch = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "torch"
        if of_torch and name in MAKERS and (file.name, name) not in PARAMETERS:
            found += 1
            if "device" not in {keyword.arg for keyword in node.keywords}:
                bare.append(f"{file.name}:{node.lineno} {ast.unparse(node)[:80]}")
    assert found > 10 and not bare, "\n".join(bare)


def test_float64_is_asked_for_on_the_cpu() -> None:
    wide = [
        f"{file.name}:{node.lineno} {ast.unparse(node)[:80]}"
        for file, node, name in calls()
        if name == "double" and not {"cpu()", "to(home)"} & set(ast.unparse(node).split("."))
    ]
    # check_model's twin and the exact sigma are references on the user's device, a float64 kernel's
    # model is there already; phases come from a CPU tensor.
    allowed = ("gradient_check.py", "exact_sigma.py", "norms.py", "engine.py")
    assert not [line for line in wide if not line.startswith(allowed)], "\n".join(wide)


@pytest.mark.parametrize("seed", [0, None])
def test_a_seed_of_ones_own_leaves_the_generators_of_other_devices_alone(
    seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    with seeded(seed):
        torch.rand(1)
    assert seeds == []


# Ten steps of Chebyshev have not settled: where things lie is what counts here.
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
def test_the_library_works_under_another_default_device() -> None:
    """Everything that is the package's own is made where it says, also with a default device that
    holds nothing.
    """
    models = (
        LoopedMLP(64, 4, 3, seed=0),
        ConvEqProp(1, [2, 3], 3, image_size=8, seed=0),
        BackpropMLP(64, 4, 3, seed=0),
    )
    data = build_dataset("digits")
    torch.set_default_device("meta")
    try:
        batches = data.train.to("cpu").batches(
            500, shuffle=True, augment=eqprop_lab.Augmentation(shift=1, cutout=2)
        )
        x, y = next(iter(batches))
        assert x.device.type == y.device.type == "cpu"
        for model in models:
            gradient = "centered" if isinstance(model, eqprop_lab.EquilibriumModel) else "autograd"
            trainer = EqPropTrainer(model, gradient, solver="chebyshev")
            trainer.fit([(x, y % 3)], 2, [(x.numpy(), (y % 3).tolist())])  # type: ignore[list-item]
            if isinstance(model, eqprop_lab.EquilibriumModel):
                assert eqprop_lab.check_gradient(model, x[:4], y[:4] % 3, "response").worst < 0.1
                assert eqprop_lab.relax(model, x, tol=1e-2, per_sample=True).converged
        assert data.train.split(0.1)[1].x.device.type == "cpu"
    finally:
        torch.set_default_device(None)
