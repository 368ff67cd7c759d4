"""Twelve ways in which a convolutional equilibrium network goes wrong quietly, and the test that
guards each.

1   An answer that depends on how long one waits.
    tests/equilibrium/test_layered_gradients.py::test_logits_do_not_depend_on_the_number_of_sweeps_after_training
    tests/equilibrium/test_layered_gradients.py::test_digits_are_learned_within_a_budget_and_the_certificate_holds_at_every_epoch
2   A norm that is none: the flattened kernel, a grid of frequencies without its slack, an estimate
    that stops too soon; a transposed convolution of the wrong size.
    tests/models/test_conv_pitfalls.py::test_certified_norms_lie_above_the_converged_one_and_the_flattened_kernel_below
    tests/models/test_conv_pitfalls.py::test_a_peak_between_two_frequencies_is_covered_by_the_slack_only
    tests/models/test_conv_pitfalls.py::test_a_network_starts_at_its_share_of_any_cap
    tests/equilibrium/test_bounded.py::test_the_bound_holds_under_large_random_updates
    tests/models/test_conv.py::test_down_is_the_adjoint_of_up
3   Gradients that are right at the start and wrong after training.
    tests/equilibrium/test_layered_gradients.py::test_every_parameter_s_gradient_is_right_and_the_error_falls_with_the_square_of_beta
4   The weights kappa of the energy left out: every cosine is 1, every norm below the top is wrong.
    tests/equilibrium/test_layered_gradients.py::test_without_the_weights_of_the_energy_norms_are_wrong_and_cosines_are_not
5   Two nearly equal float32 states subtracted.
    tests/equilibrium/test_mean_difference.py::test_it_equals_stacking_at_any_beta_and_number_of_steps
    tests/equilibrium/test_mean_difference.py::test_float32_keeps_the_lower_layers_where_stacking_loses_them
6   An energy that rises, or several places to end.
    tests/models/test_conv.py::test_the_energy_never_rises_in_a_sweep_whatever_the_weights
    tests/models/test_conv.py::test_updating_all_layers_at_once_can_raise_the_energy
    tests/models/test_conv.py::test_every_start_ends_in_the_one_fixed_point_within_the_error_bound
7   The bound left out of the gradient, or with a kink at the cap.
    tests/models/test_conv_pitfalls.py::test_the_gradient_of_the_whole_network_goes_through_the_bound
    tests/models/test_conv_pitfalls.py::test_there_is_no_kink_at_the_cap
    tests/equilibrium/test_bounded.py::test_the_gradient_through_the_bound_is_the_finite_difference
8   Power vectors that move while a phase is running, or that a checkpoint forgets.
    tests/models/test_conv_pitfalls.py::test_weights_stand_still_within_a_phase_and_follow_an_update
    tests/equilibrium/test_bounded.py::test_reading_has_no_side_effect_and_an_update_moves_the_block
    tests/equilibrium/test_bounded.py::test_a_checkpoint_holds_the_block
9   Groups in the wrong order: the readout lags one sweep behind.
    tests/models/test_conv_pitfalls.py::test_the_first_sweep_already_moves_the_readout
    tests/models/test_conv.py::test_the_order_of_a_sweep_ends_at_the_readout
10  The linear response with gamma on the upward signal instead of the downward one.
    tests/models/test_conv_pitfalls.py::test_the_response_sends_gamma_down_and_not_up
11  A contraction measured in the plain norm, which may well grow.
    tests/models/test_conv.py::test_the_certificate_holds_in_its_metric_and_not_in_the_plain_one
12  beta divided by the batch.
    tests/models/test_conv_pitfalls.py::test_a_gradient_does_not_depend_on_the_company_of_its_samples
    tests/equilibrium/test_layered_gradients.py::test_a_nudge_is_per_sample_and_never_divided_by_the_batch

Where a test below takes `monkeypatch`, it also brings the mistake about and shows that what it
looks at then fails.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from eqprop_lab import ConvEqProp, build_dataset, estimate_gradients, relax
from eqprop_lab.equilibrium import linear_maps, norms, phases
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.gradients import Gradients
from eqprop_lab.equilibrium.jacobian import force_vjp
from eqprop_lab.equilibrium.linear_maps import ConvMap, LinearMap
from eqprop_lab.equilibrium.norms import conv_bound, flattened_norm, operator_norm
from eqprop_lab.equilibrium.sigma_vector import fingerprint
from eqprop_lab.equilibrium.spectral import MARGIN, Bounded, bounded_weights, follow_updates
from eqprop_lab.equilibrium.state import State
from eqprop_lab.instruments.gradient_check import exact_gradients

ROOT = Path(__file__).resolve().parents[2]
TRAIN = build_dataset("digits").train
X, Y = TRAIN.x[:8].double(), TRAIN.y[:8]
RAW = "layers.1.parametrizations.weight.original"
SETTLED = {"free_steps": 60, "nudged_steps": 60}


def conv(channels: int | list[int] = 4, gamma: float | None = 0.1) -> ConvEqProp:
    return ConvEqProp(1, channels, 10, gamma=gamma, image_size=8, seed=0).double()


def bounded(model: ConvEqProp) -> Bounded:
    module = model.get_submodule("layers.1.parametrizations.weight.0")
    assert isinstance(module, Bounded)
    return module


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def worst(got: Gradients, expected: Gradients) -> float:
    assert got.keys() == expected.keys()
    return max(float((got[name] - e).norm() / e.norm()) for name, e in expected.items())


def test_every_pitfall_has_a_test_and_every_test_named_above_exists() -> None:
    assert __doc__ is not None
    sections = re.split(r"^(?=\d+ )", __doc__, flags=re.MULTILINE)[1:]
    assert [int(section.split()[0]) for section in sections] == list(range(1, 13))
    for section in sections:
        named = re.findall(r"(tests/\S+\.py)::(\w+)", section)
        assert named, section
        for path, test in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
                f"{path}::{test}"
            )


# channels, size of the input, kernel, stride: odd and even kernels, odd and even sizes, not square
MAPS = [
    ConvMap((4, 6), (8, 8), 3, 2),
    ConvMap((6, 4), (7, 9), 3, 1),
    ConvMap((3, 5), (7, 5), 5, 1),
    ConvMap((4, 6), (14, 6), 5, 2),
    ConvMap((4, 3), (8, 12), 4, 2),
    ConvMap((2, 8), (6, 10), 2, 2),
    ConvMap((3, 4), (9, 15), 6, 3),
    ConvMap((3, 4), (9, 6), 4, 3),
    ConvMap((5, 3), (9, 6), 3, 3),
]


def converged(linear: LinearMap, weight: Tensor) -> float:
    """Power iteration with the map's own up and down, to the end."""

    def square(rows: Tensor) -> Tensor:
        return linear.down(linear.up(rows.unflatten(1, linear.in_shape), weight), weight).flatten(1)

    return operator_norm(square, math.prod(linear.in_shape))


@pytest.mark.parametrize("linear", MAPS)
def test_certified_norms_lie_above_the_converged_one_and_the_flattened_kernel_below(
    linear: ConvMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        weight = random(linear.weight_shape, seed)
        true = converged(linear, weight)
        exact = linear.norm_bound(weight)
        assert true <= exact * (1 + 1e-12) and exact == pytest.approx(true, rel=1e-9)
        with monkeypatch.context() as patch:
            patch.setattr(linear_maps, "EXACT_UP_TO", 0)
            for frequencies in (12, 16, 32):
                patch.setattr(linear_maps, "FREQUENCIES", frequencies)
                assert true <= linear.norm_bound(weight) <= 2 * true
        if linear.kernel > linear.stride:  # with disjoint patches both are the same
            assert flattened_norm(weight) < 0.97 * true


@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (4, 2), (5, 2), (6, 3), (4, 3)]
)
def test_a_peak_between_two_frequencies_is_covered_by_the_slack_only(
    kernel: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each tap turns two channels by half a step of the grid more than the one before: on an endless
    # image the norm is the number of taps, reached exactly between two frequencies.
    grid, taps = 12, -(-kernel // stride)
    weight = torch.zeros(2, 2, kernel, kernel, dtype=torch.float64)
    for tap in range(taps):
        turn = math.pi / grid * tap
        weight[:, :, (kernel - 1) // 2, tap * stride] = torch.tensor(
            [[1, -1], [1, 1]]
        ) * torch.tensor(
            [[math.cos(turn), math.sin(turn)], [math.sin(turn), math.cos(turn)]],
            dtype=torch.float64,
        )
    long = converged(ConvMap((2, 2), (2 * stride, 60 * stride), kernel, stride), weight)
    assert long == pytest.approx(taps, rel=5e-3)
    assert long < taps <= conv_bound(weight, stride, frequencies=grid)
    blunt = SimpleNamespace(
        **{name: getattr(math, name) for name in ("ceil", "sqrt", "pi")}, cos=lambda angle: 1.0
    )
    monkeypatch.setattr(norms, "math", blunt)
    assert conv_bound(weight, stride, frequencies=grid) < long


@pytest.mark.parametrize("gamma", [0.03, 0.1, 1.0])
def test_a_network_starts_at_its_share_of_any_cap(gamma: float) -> None:
    # gamma = 1 has a cap below 1, where the search for the norm must not take its start for a
    # result.
    for size, channels in ((8, [4, 6]), (12, [3, 4, 5])):
        model = ConvEqProp(1, channels, 10, gamma=gamma, image_size=size, seed=0)
        for norm in model.layer_norms():
            assert norm == pytest.approx(0.8 * model.cap, rel=2e-3)
        assert model.contraction_bound() == pytest.approx(0.8 * model.rho, rel=2e-3)


def loss(model: ConvEqProp) -> float:
    with torch.no_grad():
        end = relax(model, X, 60)
        return float(torch.nn.functional.cross_entropy(model.readout(end.state), Y))


def slope_error(model: ConvEqProp) -> float:
    """Relative error of the slope of the loss along a random change of the raw W_2, against a
    finite difference.
    """
    raw = model.get_parameter(RAW)
    along, step = random(tuple(raw.shape), 5), 1e-4

    def moved(by: float) -> None:
        with torch.no_grad():
            raw.add_(by * along)

    slope = float((estimate_gradients(model, X, Y, "response", **SETTLED)[RAW] * along).sum())
    losses = []
    for way in (step, -2 * step):
        moved(way)
        losses.append(loss(model))
    moved(step)
    difference = (losses[0] - losses[1]) / (2 * step)
    return abs(slope - difference) / abs(difference)


@pytest.mark.parametrize("size", [0.3, 1.0, 5.0])
def test_the_gradient_of_the_whole_network_goes_through_the_bound(
    size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = conv()
    with torch.no_grad():
        model.get_parameter(RAW).mul_(size)
    assert slope_error(model) <= 1e-5
    forward = Bounded.forward

    def detached(self: Bounded, weight: Tensor) -> Tensor:
        return weight * (forward(self, weight.detach()).norm() / weight.detach().norm())

    monkeypatch.setattr(Bounded, "forward", detached)
    assert slope_error(model) > 1e-2


def test_there_is_no_kink_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv()
    found: list[Tensor] = []

    def jump() -> float:
        """Relative change of W_2's gradient when its norm crosses the cap by a millionth."""
        found.clear()
        for factor in (1 - 5e-7, 1 + 5e-7):
            with torch.no_grad():
                raw = model.get_parameter(RAW)
                raw.mul_(factor * model.cap / MARGIN / converged(bounded(model).linear, raw))
            found.append(estimate_gradients(model, X, Y, "response", **SETTLED)[RAW])
        return float((found[0] - found[1]).norm() / found[0].norm())

    assert jump() <= 1e-4

    def hard(self: Bounded, weight: Tensor) -> Tensor:
        top = self.top(weight).unflatten(0, (1, *self.linear.in_shape))
        sigma = MARGIN * self.linear.up(top, weight).norm()
        assert self.cap is not None
        return weight * (self.cap / sigma).clamp_max(1.0)

    monkeypatch.setattr(Bounded, "forward", hard)
    assert jump() > 1e-2


def test_weights_stand_still_within_a_phase_and_follow_an_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = conv()

    def evaluations(run: Callable[[], object]) -> tuple[int, bool]:
        """(how often the weight was evaluated, whether the vectors moved)."""
        seen: list[Tensor] = []
        forward, before = Bounded.forward, bounded(model).basis.clone()

        def counted(self: Bounded, weight: Tensor) -> Tensor:
            seen.append(weight)
            return forward(self, weight)

        with monkeypatch.context() as patch:
            patch.setattr(Bounded, "forward", counted)
            run()
        return len(seen), not torch.equal(before, bounded(model).basis)

    def centered() -> None:
        estimate_gradients(model, X, Y, "centered", free_steps=9, nudged_steps=9)

    assert "basis" in dict(bounded(model).named_buffers())
    model.contraction_bound()
    short, long = (evaluations(lambda steps=steps: relax(model, X, steps)) for steps in (2, 60))
    assert short == long and not long[1]
    assert evaluations(centered)[0] <= 3 and not evaluations(centered)[1]
    with torch.no_grad():
        model.get_parameter(RAW).add_(0.05 * random(tuple(model.get_parameter(RAW).shape)))
    assert not evaluations(lambda: relax(model, X, 60))[1]
    assert (
        evaluations(lambda: follow_updates(bounded_weights(model)))[1]
        and not evaluations(centered)[1]
    )
    # The mistake: a power step at every reading, as torch's own spectral_norm does while training.
    bounded(model).basis = random(tuple(bounded(model).basis.shape))
    forward = Bounded.forward

    def restless(self: Bounded, weight: Tensor) -> Tensor:
        self._tracked = None
        self._adopt(weight, fingerprint(weight))
        return forward(self, weight)

    monkeypatch.setattr(Bounded, "forward", restless)
    assert evaluations(lambda: relax(model, X, 3))[1]


@torch.no_grad()
def test_the_first_sweep_already_moves_the_readout() -> None:
    for channels in ([4, 6], [3, 4, 5], [3, 4, 4, 5]):
        model = conv(channels)
        settled, start = (model.readout(relax(model, X, steps).state) for steps in (60, 1))
        feed_forward = model.readout(model.initial_state(model.drive(X)))
        assert float((start - settled).norm()) < 0.8 * float((feed_forward - settled).norm())
        model.groups = model.groups[::-1]
        late = model.readout(relax(model, X, 1).state)
        torch.testing.assert_close(late, feed_forward, rtol=1e-12, atol=1e-12)


class Swapped(ConvEqProp):
    """The mistake: J^T in the place of J, gamma on the upward signal of the linear response."""

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        if any(bool(block.any()) for block in drive):
            return super().block_forces(group, state, drive)
        return force_vjp(self.__dict__["plain"], state, drive)(state)


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_the_response_sends_gamma_down_and_not_up(gamma: float) -> None:
    model, swapped = (
        cls(1, [3, 4, 5], 10, gamma=gamma, image_size=8, seed=0).double()
        for cls in (ConvEqProp, Swapped)
    )
    swapped.__dict__["plain"] = model
    expected = exact_gradients(model, X, Y)
    assert worst(estimate_gradients(model, X, Y, "response", **SETTLED), expected) <= 1e-9
    mistaken = worst(estimate_gradients(swapped, X, Y, "response", **SETTLED), expected)
    assert mistaken > 0.5 if gamma < 1 else mistaken <= 1e-9


def test_a_gradient_does_not_depend_on_the_company_of_its_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def apart(beta: float = 0.3) -> float:
        """One batch of eight against the mean of eight batches of one."""
        model = conv()
        alone = [
            estimate_gradients(model, X[i : i + 1], Y[i : i + 1], "centered", beta, **SETTLED)
            for i in range(8)
        ]
        mean = {
            name: torch.stack([gradients[name] for gradients in alone]).mean(0) for name in alone[0]
        }
        return worst(estimate_gradients(model, X, Y, "centered", beta, **SETTLED), mean)

    assert apart() <= 1e-9
    strength = phases.strength

    def divided(model: EquilibriumModel, free: State, *rest: object) -> float:
        return strength(model, free, *rest) / len(free[0])  # type: ignore[arg-type]

    monkeypatch.setattr(phases, "strength", divided)
    assert apart() > 1e-5
