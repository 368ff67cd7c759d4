"""The playground: its numbers are the network's, it trains what is picked, and keeps it."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab import ConvEqProp, build_dataset, count_parameters
from eqprop_lab.datasets import DataSet, Split
from eqprop_lab.instruments.summary import summary
from eqprop_lab.notebook.background import AlreadyRunning
from eqprop_lab.notebook.explorers.playground import KINDS, Playground, build, name_of
from eqprop_lab.notebook.style import new_figure
from tests.waiting import PATIENCE


def few() -> DataSet:
    """Digits, a few batches of them."""
    whole = build_dataset("digits")
    train, held, test = (
        Split(part.x[:120], part.y[:120]) for part in (whole.train, whole.validation, whole.test)
    )
    return DataSet("digits", train, held, test, whole.classes)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_network_that_is_picked(kind: str) -> None:
    explorer = Playground(data=few(), network=kind, depth=2, width=8)
    model = build(kind, 2, 8, channels=1, classes=10, side=8)
    card, found = explorer.data.card, summary(model, few().train.x[:1])
    assert (card.parameters, card.flop) == (count_parameters(model), found.flop)
    assert f"{card.parameters:,} parameters, {card.flop:,.0f} FLOP" in explorer.alt
    assert name_of(kind, 2, 8) in explorer.alt and "not trained here yet" in explorer.alt
    assert ("30 sweeps" in explorer.alt) == isinstance(model, ConvEqProp)


def test_every_pick_can_be_built_and_read_an_image() -> None:
    x = torch.rand(2, 1, 8, 8)
    for kind in KINDS:
        for depth in (1, 2, 3):
            assert build(kind, depth, 4, 1, 10, 8)(x).shape == (2, 10)


def test_a_training_is_that_of_the_pick_and_is_kept() -> None:
    explorer = Playground({("SmallCNN", 2, 4): [0.5, 0.7]}, few(), network="SmallCNN", depth=2)
    explorer.set(width=4, epochs=2)
    assert "Stored: 60.0 ± 14.1 % (2 seeds)" in explorer.alt
    explorer.start()
    assert explorer.wait(PATIENCE) and not explorer.errors
    curve = explorer.data.curve
    assert len(curve) == 2 and f"{curve[-1]:.1%} of the validation images after 2" in explorer.alt
    explorer.set(network="ConvEqProp", depth=1, epochs=1)
    assert not explorer.data.curve and "Stored" not in explorer.alt
    explorer.start()
    assert explorer.wait(PATIENCE) and len(explorer.data.curve) == 1
    explorer.set(network="SmallCNN", depth=2)
    assert explorer.data.curve is curve and explorer.data.curves == [
        explorer.curves[KINDS[3], 1, 4]
    ]
    figure = new_figure(*explorer.size)
    for show in explorer.build(figure):
        show(explorer.data)
    drawn = next(each for each in figure.axes[2].lines if each.get_marker() == "o")
    assert list(drawn.get_ydata()) == curve


def test_stop_ends_it_and_a_second_start_is_refused() -> None:
    explorer = Playground(data=few(), network="ResNet", depth=3, width=32, epochs=12)
    explorer.start()
    with pytest.raises(AlreadyRunning):
        explorer.start()
    explorer.worker.stop()
    assert explorer.wait(PATIENCE) and not explorer.errors
    assert explorer.worker.status == "stopped" and len(explorer.data.curve) < 12


def test_a_stored_pick_that_no_control_reaches_is_refused() -> None:
    for pick in (("ResNet", 4, 16), ("ResNet", 1, 18), ("VGG", 1, 16)):
        with pytest.raises(ValueError, match=f"stored has .*{pick[0]}.*no control can reach"):
            Playground({pick: [0.9]}, few())
