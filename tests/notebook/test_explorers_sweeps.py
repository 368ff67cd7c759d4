"""The explorer of sweeps: its curves are those of the package, its sentence says them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eqprop_lab import estimate_gradients, relax
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.nudges import CostNudge
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning
from eqprop_lab.notebook.explorers.error_sweeps import DIGITS, ErrorSweeps, errors_of, network
from eqprop_lab.notebook.explorers.small_networks import digits
from eqprop_lab.notebook.style import new_figure


def exact(depth: int) -> dict[str, torch.Tensor]:
    """By autograd through a network of PyTorch's own modules."""
    x, y = digits(DIGITS)
    layers: list[torch.nn.Module] = []
    for layer in network(depth).layers:
        linear = torch.nn.Linear(*reversed(layer.weight.shape)).double()
        linear.load_state_dict(layer.state_dict())
        layers += [linear, torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers[:-1])
    loss = torch.nn.functional.cross_entropy(net(x), y)
    found = torch.autograd.grad(loss, list(net.parameters()))
    return dict(zip(dict(network(depth).named_parameters()), found, strict=True))


def apart(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    away = sum(float((found[n] - g).square().sum()) for n, g in wanted.items())
    return (away / sum(float(g.square().sum()) for g in wanted.values())) ** 0.5


@pytest.mark.parametrize("sweeps", [1, 2, 5])
def test_the_carried_curve_is_the_error_of_the_estimator(sweeps: int) -> None:
    x, y = digits(DIGITS)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        got = estimate_gradients(network(2), x, y, "centered", 0.2, nudged_steps=sweeps)
    found = errors_of(0.2, 2, 5).carried[sweeps - 1]
    assert found == pytest.approx(apart(dict(got), exact(2)), abs=1e-9)


def test_the_read_off_curves_are_those_of_two_phases_stepped_one_by_one() -> None:
    x, y = digits(DIGITS)
    model, beta, sweeps = network(2), 0.1, 2
    drive, free = model.drive(x), relax(model, x).state
    cost = make_cost("cross_entropy", y, 10, x).grad
    errors = []
    for b in (beta, -beta):
        end = relax(model, x, sweeps, start=free, nudge=CostNudge(model, cost, (b,))).state
        predicted = model.predictions(end, drive)
        errors.append([s - p.detach() for s, p in zip(end, predicted, strict=True)])
    wanted: list[torch.Tensor] = []
    e = -beta * cost(free[-1])
    for number in reversed(range(3)):
        wanted.insert(0, e.detach())
        slope = 1.0 if number == 2 else 1 - free[number].square()
        e = (slope * e) @ model.layers[number].weight.detach()
    halves = [(a - b) / 2 for a, b in zip(*errors, strict=True)]
    found = [float((h - w).norm() / w.norm()) for h, w in zip(halves, wanted, strict=True)]
    np.testing.assert_allclose(errors_of(beta, 2, 4).layers[:, sweeps - 1], found, rtol=1e-6)


def test_both_curves_end_on_one_plateau_that_grows_with_beta_squared() -> None:
    small, large = (errors_of(beta, 3, 16) for beta in (0.02, 0.04))
    assert small.read[-1] == pytest.approx(small.carried[-1], rel=1e-3)
    assert small.carried[0] < 1e-12 and small.read[0] > 0.3
    assert large.carried[-1] / small.carried[-1] == pytest.approx(4, rel=0.05)


def test_the_sentence_says_what_is_drawn() -> None:
    explorer = ErrorSweeps()
    explorer.set(beta=0.1, depth=6, sweeps=16)
    said = explorer.describe(explorer.data, **explorer.values)
    assert "After 16 sweep(s) at beta 0.1" in said and "7 layers" in said
    assert f"{explorer.data.read[0]:.1e}" in said
    assert not explorer.errors


def test_the_legend_names_the_layers_that_are_drawn() -> None:
    explorer, figure = ErrorSweeps(), new_figure(*ErrorSweeps.size)
    shows = explorer.build(figure)
    for depth in (3, 1, 6, 6):
        for show in shows:
            show(explorer.compute(0.05, depth, 4))
        drawn = [c.get_label() for c in figure.axes[0].lines if len(c.get_xdata())]
        (legend,) = (of for of in figure.legends if of.get_texts()[0].get_text() == "1")
        assert [text.get_text() for text in legend.get_texts()] == drawn
        assert len(drawn) == depth + 1 and len(figure.legends) == 2
