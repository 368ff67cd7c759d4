"""What a teacher says, as targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import EqPropTrainer, LoopedMLP, LUTNetwork, build_dataset
from eqprop_lab.datasets.splits import Split
from eqprop_lab.experiments.distillation import distilled

DATA = build_dataset("digits")
TRAIN = Split(DATA.train.x[:200], DATA.train.y[:200])


def test_targets_are_the_mean_of_answers_and_labels() -> None:
    teacher = LoopedMLP(64, 20, 10, seed=0).train()
    found = distilled(teacher, TRAIN, weight=0.3, temperature=2.0, batch_size=64)
    assert teacher.training and found.x is TRAIN.x
    with torch.no_grad():
        powers = torch.exp(teacher.eval()(TRAIN.x) / 2)
    for sample in (0, 63, 64, 199):
        wanted = 0.3 * powers[sample] / powers[sample].sum()
        wanted[TRAIN.y[sample]] += 0.7
        torch.testing.assert_close(found.y[sample], wanted)
    labels = distilled(teacher, TRAIN, weight=0.0)
    assert torch.equal(labels.y.argmax(1), TRAIN.y) and torch.equal(
        labels.y.amax(1), torch.ones(200)
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_classes_may_be_integers_of_any_kind(dtype: torch.dtype) -> None:
    teacher = LoopedMLP(64, 5, 10, seed=0)
    found = distilled(teacher, Split(TRAIN.x, TRAIN.y.to(dtype)))
    assert torch.equal(found.y, distilled(teacher, TRAIN).y)


def test_a_lut_network_learns_a_settling_teacher_without_a_label() -> None:
    teacher = LoopedMLP(64, 32, 10, seed=0)
    EqPropTrainer(teacher, lr=0.01, progress=False).fit(DATA.train.batches(64), epochs=3)
    lesson = distilled(teacher, TRAIN.x)
    assert torch.equal(lesson.y, distilled(teacher, TRAIN, weight=1.0).y)
    student = LUTNetwork(64, 10, [300, 200], seed=0)
    how: dict[str, Any] = {"gradient": "autograd", "lr": 0.1, "progress": False}
    EqPropTrainer(student, **how).fit(lesson.batches(20, shuffle=True), epochs=6)
    student.eval()
    x = DATA.validation.x
    with torch.no_grad():
        same = (student(x).argmax(1) == teacher(x).argmax(1)).double().mean()
    assert same > 0.6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": 3}, "teacher must be a torch.nn.Module"),
        ({"split": TRAIN.x.numpy()}, "split must be a Split"),
        ({"split": TRAIN.x, "weight": 0.9}, "weight must be 1 for images without labels, got 0.9"),
        ({"split": TRAIN.x[:0]}, "split must hold at least one sample"),
        ({"split": Split(TRAIN.x, torch.rand(200, 10))}, "split must have classes"),
        ({"split": Split(TRAIN.x, TRAIN.y > 4)}, "split must have classes"),
        ({"split": Split(TRAIN.x, TRAIN.y - 1)}, "split must have classes from 0 on, got -1"),
        ({"weight": 1.5}, "weight"),
        ({"temperature": 1e-320}, "temperature must be larger"),
        ({"temperature": 0.0}, "temperature"),
        ({"batch_size": 0}, "batch_size"),
        ({"teacher": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, "a logit for each of 10"),
    ],
)
def test_what_is_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"teacher": LoopedMLP(64, 5, 10, seed=0), "split": TRAIN}
    with pytest.raises((TypeError, ValueError), match=said):
        distilled(**(given | change))


def test_a_teacher_that_has_come_to_nothing() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(teacher[1].bias, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        distilled(teacher, TRAIN)
