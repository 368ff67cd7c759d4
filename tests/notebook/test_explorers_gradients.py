"""The explorers of notebook 03: what they compute is the package's own physics, and they say what
is seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import build_dataset, relax
from eqprop_lab.equilibrium.gradients import NUDGED, Settings
from eqprop_lab.instruments.validity import Validity, check_nudge
from eqprop_lab.notebook.explorers import gradient_compass
from eqprop_lab.notebook.explorers.gradient_compass import (
    DIGITS,
    ESTIMATORS,
    FLOOR,
    GROUPS,
    MARKERS,
    SETTLED,
    WEIGHTS,
    GradientCompass,
    bearing,
    grouped,
    said_of,
    skewed_network,
    trained_network,
    verdict,
)
from eqprop_lab.notebook.explorers.small_networks import digits
from eqprop_lab.notebook.explorers.two_phase_movie import (
    FREE_STEPS,
    HIDDEN,
    STEPS,
    TwoPhaseMovie,
    film,
    half_trained_network,
)


@pytest.fixture(scope="module")
def movie() -> TwoPhaseMovie:
    return TwoPhaseMovie()


@pytest.fixture(scope="module")
def compass() -> GradientCompass:
    return GradientCompass()


def errors(compass: GradientCompass, **values: object) -> dict[str, float]:
    start = {"estimator": "centered", "beta": 0.1, "steps": 60, "skew": 0.0, "weights": "fresh"}
    return {group: b.error for group, b in compass.compute(**(start | values)).groups.items()}


def test_the_film_is_a_relaxation_by_the_formula_of_the_nudged_step() -> None:
    model, beta = half_trained_network(), 0.4
    shown = film(0, beta)
    assert shown.states.shape == (STEPS + 1, 3, HIDDEN) and shown.probability.shape == (
        STEPS + 1,
        3,
    )
    data = build_dataset("digits").train
    x, target = data.x[:1].flatten(1).double(), torch.eye(10).double()[data.y[:1]]
    free = relax(model, x, FREE_STEPS).state[0]
    np.testing.assert_allclose(shown.states[FREE_STEPS], free.expand(3, -1).numpy(), atol=1e-13)
    h = free
    with torch.no_grad():
        for _ in range(STEPS - FREE_STEPS):
            pull = (model.W_out(h).softmax(1) - target) @ model.W_out.weight
            h = torch.tanh(h @ model.W_rec.weight + model.W_in(x) + model.W_rec.bias - beta * pull)
        likely = model.W_out(h).softmax(1)[0, shown.label]
    np.testing.assert_allclose(shown.states[-1, 1], h[0].numpy(), atol=1e-13)
    assert shown.probability[-1, 1] == pytest.approx(float(likely), abs=1e-13)


def test_the_nudge_pulls_towards_the_right_answer_and_away_from_it() -> None:
    for digit in range(16):
        shown = film(digit, 0.1)
        free, plus, minus = shown.probability[-1]
        assert minus < free < plus
        assert np.ptp(shown.probability[: FREE_STEPS + 1], axis=1).max() < 1e-12
        assert sorted(shown.order) == list(range(HIDDEN))


def test_the_movement_is_proportional_to_a_small_beta_and_opposite_for_minus_beta() -> None:
    small, double = (film(3, beta).states[-1] for beta in (0.001, 0.002))
    moved = small[1] - small[0]
    np.testing.assert_allclose(double[1] - double[0], 2 * moved, rtol=0.01, atol=1e-7)
    np.testing.assert_allclose(small[2] - small[0], -moved, rtol=0.01, atol=1e-7)


def test_the_movie_says_which_phase_it_shows(movie: TwoPhaseMovie) -> None:
    movie.set(step=FREE_STEPS)
    assert f"step {FREE_STEPS} of the free phase, the three copies are one" in movie.alt
    before = movie.png
    movie.set(step=FREE_STEPS + 5, beta=0.2)
    assert "step 5 of the nudged phase with beta 0.2" in movie.alt and movie.png != before
    shown, step = movie.data
    assert f"+beta {shown.probability[step, 1]:.3f}" in movie.alt
    movie.reset()


def test_the_movie_draws_at_every_end_of_every_slider(movie: TwoPhaseMovie) -> None:
    for control in movie.controls:
        for value in (control.low, control.high):  # type: ignore[union-attr]
            movie.set(**{control.name: value})
            assert np.isfinite(movie.data[0].states).all()
        movie.reset()
    assert movie.errors == []


def test_the_network_of_the_compass_has_the_norm_and_the_skew_asked_for() -> None:
    for skew in (0.0, 0.3, 1.0):
        weight = skewed_network(skew).W_rec.weight.detach()
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(0.8, abs=1e-12)
        odd = (weight - weight.T) / 2
        assert float(odd.square().sum() / weight.square().sum()) == pytest.approx(skew, abs=1e-12)


def test_a_bearing_is_angle_length_and_error() -> None:
    north = torch.tensor([0.0, 2.0], dtype=torch.float64)
    east = bearing(torch.tensor([1.0, 0.0], dtype=torch.float64), north)
    assert (east.angle, east.length, east.error) == pytest.approx((90.0, 0.5, math.sqrt(5) / 2))
    assert bearing(-north, north).angle == pytest.approx(180.0)
    tilted = torch.tensor([2 * math.sin(1e-9), 2 * math.cos(1e-9)], dtype=torch.float64)
    assert bearing(tilted, north).angle == pytest.approx(math.degrees(1e-9), rel=1e-6)


def test_every_parameter_belongs_to_one_group() -> None:
    model = skewed_network(0.0)
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    gradients = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    assert sum(v.numel() for v in grouped(gradients).values()) == sum(
        p.numel() for p in model.parameters()
    )


def test_the_exact_gradient_is_that_of_backpropagation_through_time(
    compass: GradientCompass,
) -> None:
    for skew in (0.0, 0.6):
        found = errors(compass, estimator="truncated_bptt", skew=skew)
        assert max(found.values()) < 1e-5
        assert max(errors(compass, estimator="implicit", skew=skew).values()) < 1e-9


def test_symmetric_weights_show_the_slopes_of_the_estimators(compass: GradientCompass) -> None:
    for estimator, order in (("one_sided", 1), ("centered", 2), ("holomorphic", 4)):
        large, small = (
            errors(compass, estimator=estimator, beta=beta)["W_rec"] for beta in (0.4, 0.2)
        )
        assert math.log2(large / small) == pytest.approx(order, abs=0.15)


def test_directed_weights_turn_every_estimator_but_the_asymmetric_and_the_adjoint(
    compass: GradientCompass,
) -> None:
    for group in ("W_in", "biases", "W_rec"):
        for beta in (0.01, 0.3):
            assert errors(compass, beta=beta, skew=0.5)[group] > 0.2
        assert errors(compass, estimator="response", skew=0.5)[group] > 0.2
        assert errors(compass, estimator="asymmetric", skew=0.5)[group] < 1e-2


def test_the_compass_draws_every_estimator_and_both_ends_of_every_slider(
    compass: GradientCompass,
) -> None:
    pictures = set()
    for estimator in ESTIMATORS:
        compass.set(estimator=estimator, beta=0.3, steps=4, skew=0.35)
        pictures.add(compass.png)
        assert estimator in compass.alt and ("beta 0.3" in compass.alt) == (
            estimator not in ("response", "implicit")
        )
    assert len(pictures) >= len(ESTIMATORS) - 1
    compass.reset()
    for control in compass.controls[1:4]:
        for value in (control.low, control.high):  # type: ignore[union-attr]
            compass.set(**{control.name: value})
        compass.reset()
    assert compass.errors == []
    assert f"W_in {compass.data.groups['W_in'].angle:.1g}°" in compass.alt


def test_the_compass_marks_errors_without_bars_and_says_those_off_its_axis() -> None:
    compass = GradientCompass()
    errors = compass._figure.axes[1]
    assert [len(line.get_xdata()) for line in errors.lines] == [1, 1, 1, 1]
    assert [text.get_text() for text in errors.texts] == [
        f"{found.error:.1e}" for found in compass.data.groups.values()
    ]
    exact = compass.data.groups["W_out"]
    assert exact.error < FLOOR == errors.lines[3].get_xdata()[0]
    assert [line.get_marker() for line in errors.lines] == [*MARKERS[:3], "<"]


def test_the_trained_network_keeps_its_norm_and_knows_the_digits_at_any_skew() -> None:
    x, y = digits(DIGITS)
    source = gradient_compass._trained()
    norm = float(torch.linalg.matrix_norm(source.W_rec.weight.detach(), 2))
    for skew in (0.0, 0.3, 1.0):
        model = trained_network(skew)
        weight = model.W_rec.weight.detach()
        odd = (weight - weight.T) / 2
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(norm, abs=1e-12)
        assert float(odd.square().sum() / weight.square().sum()) == pytest.approx(skew, abs=1e-12)
        assert torch.equal(model.W_out.weight, source.W_out.weight)
    free = relax(source, x, SETTLED).state
    torch.testing.assert_close(
        relax(trained_network(0.0), x, SETTLED).state[0], free[0], rtol=0, atol=1e-12
    )
    assert float((source.readout(free).argmax(1) == y).double().mean()) > 0.8


@pytest.mark.parametrize(
    ("weights", "beta", "inside"), [("fresh", 0.3, True), ("trained", 0.3, False)]
)
def test_the_verdict_tells_a_nudge_too_strong_for_the_weights(
    compass: GradientCompass, weights: str, beta: float, inside: bool
) -> None:
    compass.set(weights=weights, estimator="holomorphic", beta=beta)
    error = compass.data.groups["W_rec"].error
    assert compass.data.nudge.inside == inside and (error < 1e-2 if inside else error > 0.3)
    line = compass._figure.texts[0]
    where = "inside" if inside else "OUTSIDE"
    assert f"beta 0.3 is {where} the radius of validity" in line.get_text()
    assert line.get_text() in compass.alt and f"{weights} weights" in compass.alt
    assert line.get_window_extent().x1 < compass._figure.bbox.x1
    compass.reset()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("estimator", NUDGED)
def test_the_quick_verdict_is_that_of_settled_phases(weights: str, estimator: str) -> None:
    model = gradient_compass._exact(weights, 0.0)[0]
    for beta in (0.01, 0.03, 0.1, 0.5, 3.0):
        quick = verdict(weights, 0.0, estimator, beta)
        settled = check_nudge(model, *digits(DIGITS), estimator, Settings(beta, 200, 200))
        assert quick is not None and quick.inside == settled.inside, (quick, settled)
        if settled.inside:
            assert quick.error == pytest.approx(settled.error, rel=0.15, abs=1e-9)


def test_the_verdict_is_kept_while_only_the_steps_move(
    compass: GradientCompass, monkeypatch: Any
) -> None:
    compass.set(estimator="centered", beta=0.07, skew=0.1)
    monkeypatch.setattr(gradient_compass, "check_nudge", None)
    compass.set(steps=7)
    compass.set(steps=8)
    compass.reset()


def test_what_is_said_where_there_is_no_order_or_no_nudge(compass: GradientCompass) -> None:
    for estimator in ESTIMATORS:
        compass.set(estimator=estimator, beta=0.1)
        judged = estimator in NUDGED
        assert ("No nudge to judge" in compass.alt) != judged
        assert ("beta 0.1 is inside" in compass.alt) == judged
    compass.reset()
    assert "OUTSIDE the radius of validity: a phase diverged" in said_of(
        Validity("holomorphic", 2.0, 4, math.inf, math.nan, math.nan)
    )
    hidden = said_of(Validity("centered", 0.001, 2, 1e-12, math.nan, 1e-3))
    assert "is inside" in hidden and "order" not in hidden
