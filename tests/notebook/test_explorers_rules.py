"""The explorer of learning rules: it trains the rule that is picked, and says what it saw."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch

from eqprop_lab import BioplausibleModel
from eqprop_lab.instruments.alignment import hidden_cosines
from eqprop_lab.notebook.background import AlreadyRunning
from eqprop_lab.notebook.explorers import rule_picker
from eqprop_lab.notebook.explorers.rule_picker import PROBE, RulePicker
from eqprop_lab.notebook.rule_schematic import FAMILIES, draw_family
from eqprop_lab.notebook.style import encode_png, new_figure
from tests.waiting import PATIENCE

TASK = (torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3)


def trained(**values: Any) -> RulePicker:
    picker = RulePicker(TASK, steps=10, **values)
    picker.start()
    assert picker.wait(PATIENCE)
    return picker


def test_what_is_shown_is_the_rule_that_was_picked() -> None:
    picker = trained(algorithm="sign_symmetry", depth=2)
    run = picker.data.run
    assert run.steps == [1, 5, 10] and all(map(math.isfinite, run.loss))
    model = BioplausibleModel("sign_symmetry", 6, [32, 24], 3, seed=0)
    start = hidden_cosines(model, TASK[0][:PROBE], TASK[1][:PROBE])
    assert run.cosines[0] == pytest.approx(start)
    assert f"{run.cosines[-1][0]:.2f}" in picker.alt and "sign_symmetry" in picker.alt


def test_backprop_is_the_gradient_and_eq_align_one_layer() -> None:
    picker = trained(algorithm="backprop", depth=3)
    assert picker.data.run.cosines[-1] == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    picker.set(algorithm="eq_align")
    assert not picker.data.run.steps and "not trained yet" in picker.alt
    picker.start()
    assert picker.wait(PATIENCE)
    assert picker.data.run.steps and len(picker.data.others) == 1


def test_a_training_is_kept_and_shown_again() -> None:
    picker = trained(algorithm="backprop", learning_rate=3e-3)
    kept = picker.data.run
    picker.set(learning_rate=1e-2)
    assert not picker.data.run.steps
    picker.set(learning_rate=3e-3)
    assert picker.data.run is kept
    figure = new_figure(*picker.size)
    (show,) = picker.build(figure)
    show(picker.data)
    loss = next(each for each in figure.axes[0].lines if each.get_label() == "this rule")
    assert list(loss.get_ydata()) == kept.loss


def test_stop_ends_it_and_a_second_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(*_: Any) -> Any:
        for step in range(1, 10**6):
            begun.set()
            go.wait(0.01)
            yield step, 1.0, [0.5, 0.5]

    monkeypatch.setattr(rule_picker, "trained", slow)
    picker = RulePicker(TASK)
    picker._begin.click()
    assert begun.wait(PATIENCE)
    with pytest.raises(AlreadyRunning):
        picker.start()
    picker._end.click()
    assert picker.wait(PATIENCE)
    assert "Stopped" in picker._line.value
    picker.close()


def test_an_error_is_shown_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda caught: None)

    def broken(*_: Any) -> Any:
        raise OSError("no weights in /home/someone/secret/w.pt")

    monkeypatch.setattr(rule_picker, "trained", broken)
    picker = RulePicker(TASK)
    picker.start()
    with pytest.raises(OSError, match="no weights"):
        picker.wait(PATIENCE)
    assert len(picker.errors) == 1
    assert 'role="alert"' in picker._alert.value and "secret" not in picker._alert.value


def test_every_family_has_a_drawing_of_its_own() -> None:
    pictures = set()
    for family in FAMILIES:
        figure = new_figure(2.0, 3.0)
        draw_family(figure.subplots(), family)
        pictures.add(encode_png(figure, 60))
    assert len(pictures) == len(FAMILIES)
    with pytest.raises(ValueError, match="family"):
        draw_family(new_figure(2.0, 3.0).subplots(), "backdrop")
