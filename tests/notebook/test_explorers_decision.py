"""The decision-boundary explorer: maps, gradients and sentences follow the controls."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.notebook.explorers.decision_boundary import (
    WINDOW,
    DecisionBoundary,
    draw_plane,
    plane_values,
)
from eqprop_lab.notebook.style import new_figure


@pytest.fixture(scope="module")
def snapshots() -> Sequence[LoopedMLP]:
    data = build_dataset({"name": "two_moons", "noise": 0.15, "samples": 200})
    model = LoopedMLP(2, 12, 2, seed=0)
    kept = [copy.deepcopy(model)]
    trainer = EqPropTrainer(model, lr=0.03, progress=False)
    trainer.fit(
        data.train.batches(32, shuffle=True),
        epochs=8,
        callbacks=[lambda _: kept.append(copy.deepcopy(model))],
    )
    return kept


@pytest.fixture
def explorer(snapshots: Sequence[LoopedMLP]) -> DecisionBoundary:
    return DecisionBoundary(snapshots)


def test_map_agrees_with_the_model_at_its_corners(snapshots: Sequence[LoopedMLP]) -> None:
    left, right, bottom, top = WINDOW
    corners = torch.tensor([[left, bottom], [right, bottom], [left, top], [right, top]])
    with torch.no_grad():
        expected = snapshots[-1](corners).softmax(1)[:, 1].numpy()
    values = plane_values(snapshots[-1])
    assert np.allclose(
        [values[0, 0], values[0, -1], values[-1, 0], values[-1, -1]], expected, atol=1e-5
    )


def test_map_of_a_hidden_unit_is_its_settled_state(snapshots: Sequence[LoopedMLP]) -> None:
    model = snapshots[-1]
    values = plane_values(model, unit=3)
    corner = torch.tensor([[WINDOW[0], WINDOW[2]]])
    with torch.no_grad():
        drive = model.drive(corner)
        state = model.initial_state(drive)
        for _ in range(model.max_steps):
            state = model.step(state, drive)
    assert values[0, 0] == pytest.approx(float(state[0][0, 3]), abs=1e-5)
    assert np.abs(values).max() <= 1


def test_wrong_models_units_and_snapshots_are_refused(snapshots: Sequence[LoopedMLP]) -> None:
    with pytest.raises(ValueError, match="maps 3 inputs to 2 classes"):
        plane_values(LoopedMLP(3, 4, 2))
    with pytest.raises(ValueError, match="unit = 12 is out of range; 0 to 11"):
        plane_values(snapshots[0], unit=12)
    with pytest.raises(ValueError, match="snapshots holds 1 models"):
        DecisionBoundary(snapshots[:1])


def test_training_bends_the_border(explorer: DecisionBoundary) -> None:
    explorer.set(epoch=8)
    trained = explorer.data.accuracy
    explorer.set(epoch=0)
    assert trained > explorer.data.accuracy + 0.2


def test_gradients_agree_at_small_beta_and_not_at_large(explorer: DecisionBoundary) -> None:
    explorer.set(epoch=0, beta=0.01)
    assert explorer.data.error < 1e-3
    assert explorer.data.ratio == pytest.approx(1.0, abs=1e-3)
    explorer.set(epoch=8, beta=10.0)
    assert explorer.data.error > 0.3
    assert "scattered" in explorer.alt or "near the diagonal" in explorer.alt


def test_readout_gradients_stay_out_of_the_comparison(explorer: DecisionBoundary) -> None:
    inside = sum(
        p.numel()
        for name, p in explorer.snapshots[0].named_parameters()
        if not name.startswith("W_out")
    )
    assert explorer.data.exact.shape == explorer.data.estimated.shape == (inside,)


@pytest.mark.parametrize(
    "change",
    [{"epoch": 3}, {"noise": 0.4}, {"beta": 1.0}, {"view": "state of hidden unit 2"}],
)
def test_every_control_changes_picture_and_sentence(
    explorer: DecisionBoundary, change: dict[str, object]
) -> None:
    png, alt = explorer.png, explorer.alt
    explorer.set(**change)
    assert explorer.png != png and explorer.alt != alt
    explorer.reset()
    assert explorer.alt == alt and explorer.errors == []


def test_the_epoch_slider_ends_at_the_last_snapshot(explorer: DecisionBoundary) -> None:
    assert explorer.values["epoch"] == 1
    explorer.set(epoch=8)
    with pytest.raises(ValueError, match="epoch = 9 is out of range"):
        explorer.set(epoch=9)


def test_wrong_samples_are_crossed_out(snapshots: Sequence[LoopedMLP]) -> None:
    split = build_dataset({"name": "two_moons", "samples": 20}).test
    predicted = split.y.clone()
    predicted[:3] = 1 - predicted[:3]
    axes = new_figure().subplots()
    draw_plane(axes, plane_values(snapshots[-1]), split, predicted)
    rims, crosses = axes.lines
    for drawn in (rims, crosses):
        assert (
            np.allclose(np.transpose(drawn.get_data()), split.x[:3].numpy())
            and drawn.get_marker() == "x"
        )
