"""A checkpoint is looked at whole before any of it is loaded: shapes, types, numbers, counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import ConvEqProp, EqPropTrainer, LoopedMLP, StopTraining, build_dataset
from eqprop_lab.datasets import Split
from eqprop_lab.training import CheckpointError, EarlyStopping
from eqprop_lab.training.checkpoint import capture
from eqprop_lab.training.soundness import check_optimizer

DATA = build_dataset("digits").train
SPLIT = Split(DATA.x[:96], DATA.y[:96])


class StopAfterOne:
    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise StopTraining


def trainer(seed: int = 0, optimizer: Any = "adam") -> EqPropTrainer:
    return EqPropTrainer(
        LoopedMLP(64, 8, 10, seed=seed), optimizer=optimizer, lr=0.01, schedule="one_cycle"
    )


def fit(t: EqPropTrainer, path: Path, resume: bool = False, **options: Any) -> None:
    end = [] if resume else [StopAfterOne()]
    stop = EarlyStopping("train_loss", patience=4)
    t.fit(
        SPLIT.batches(24), 3, callbacks=[stop, *end], checkpoint_path=path, resume=resume, **options
    )


def state(content: Any, index: int = 0) -> Any:
    return content["optimizer"]["state"]["state"][index]


def group(content: Any) -> Any:
    return content["optimizer"]["state"]["param_groups"][0]


def put(holder: Callable[[Any], Any], **values: Any) -> Callable[[Any], None]:
    return lambda content: holder(content).update(values)


def plan(**values: Any) -> Callable[[Any], None]:
    return put(lambda content: content["plan"], **values)


def first_parameter(content: Any) -> torch.Tensor:
    return content["model"]["state"]["W_in.weight"]


def spoil(at: Callable[[Any], torch.Tensor], value: float) -> Callable[[Any], None]:
    return lambda content: at(content).view(-1)[:1].fill_(value)  # type: ignore[return-value]


NONSENSE = "history or plan is not what a trainer writes"
# What each file says, what is wrong with it, and what the message names. Some of these ended the
# process (exit 139).
UNSOUND: dict[str, tuple[Callable[[Any], None], str]] = {
    "moment too small": (
        put(state, exp_avg=torch.zeros(1)),
        r"exp_avg of parameter 0 is float32 \(1,\), the parameter",
    ),
    "moment of another shape": (
        put(state, exp_avg_sq=torch.zeros(8, 8)),
        r"exp_avg_sq of parameter 0 is float32 \(8,",
    ),
    "moment without shape": (
        put(state, exp_avg=torch.zeros(())),
        r"exp_avg of parameter 0 is float32 \(\)",
    ),
    "moment of integers": (
        put(state, exp_avg=torch.zeros(8, 64, dtype=torch.int64)),
        "exp_avg of parameter 0 is int64",
    ),
    "moment is a number": (put(state, exp_avg=1.0), "exp_avg of parameter 0 is 1.0"),
    "moment is a text": (put(state, exp_avg="x"), "exp_avg of parameter 0 is 'x'"),
    "sparse moment": (
        put(state, exp_avg=torch.zeros(8, 64).to_sparse()),
        "exp_avg of parameter 0 is",
    ),
    "nan in a moment": (
        spoil(lambda c: state(c)["exp_avg"], math.nan),
        "exp_avg of parameter 0 is not finite",
    ),
    "negative variance": (
        spoil(lambda c: state(c)["exp_avg_sq"], -1.0),
        "exp_avg_sq of parameter 0 is negative",
    ),
    "step of a wrong shape": (
        put(state, step=torch.ones(3)),
        r"step of parameter 0 is float32 \(3,\)",
    ),
    "step of integers": (
        put(state, step=torch.ones((), dtype=torch.int64)),
        "step of parameter 0 is int64",
    ),
    "endless step": (put(state, step=torch.tensor(math.inf)), "step of parameter 0 is not finite"),
    "moment missing": (lambda c: state(c).pop("exp_avg"), "no exp_avg for parameter 0"),
    "state of nobody": (
        lambda c: c["optimizer"]["state"]["state"].update({99: {}}),
        "a state for parameter 99 of 6",
    ),
    "state of a text": (
        lambda c: c["optimizer"]["state"]["state"].update({"a": {}}),
        "a state for parameter 'a'",
    ),
    "state is a list": (
        lambda c: c["optimizer"]["state"].update(state=[1]),
        "content does not fit",
    ),
    "rate is a text": (put(group, lr="x"), "lr is 'x' of parameter group 0"),
    "rate is nan": (put(group, lr=math.nan), "lr is nan of parameter group 0"),
    "rate is negative": (put(group, lr=-1.0), "lr is -1.0 of parameter group 0"),
    "rate is true": (put(group, lr=True), "lr is True of parameter group 0"),
    "betas": (put(group, betas=(0.9, 1.5)), r"betas are \(0.9, 1.5\)"),
    "one beta": (put(group, betas=(0.9,)), "betas is"),
    "switch is a text": (put(group, amsgrad="no"), "amsgrad is 'no'"),
    "no rate": (lambda c: group(c).pop("lr"), "there is no lr of parameter group 0"),
    "strange option": (put(group, hook="x"), "a strange hook of parameter group 0"),
    "nan in a parameter": (spoil(first_parameter, math.nan), r"its W_in\.weight is not finite"),
    "infinity in a parameter": (
        spoil(first_parameter, math.inf),
        r"its W_in\.weight is not finite",
    ),
    "parameters are a list": (
        lambda c: c["model"].update(state=[1]),
        "a list in the place of parameters",
    ),
    "nan in the last state": (
        lambda c: c.update(last={k: v * math.nan for k, v in c["model"]["state"].items()}),
        "is not finite",
    ),
    "last state of another model": (
        lambda c: c.update(last={"a": torch.ones(1)}),
        "the last state lacks",
    ),
    "plan begins at a text": (plan(first="x"), NONSENSE),
    "plan begins at nothing": (plan(first=0), NONSENSE),
    "plan of no epochs": (plan(epochs=-3), NONSENSE),
    "plan of half an epoch": (plan(epochs=1.5), NONSENSE),
    "plan later than its history": (plan(first=7), NONSENSE),
    "plan with true batches": (plan(batches=True), NONSENSE),
    "plan is a text": (lambda c: c.update(plan="x"), NONSENSE),
    "history of texts": (lambda c: c["history"].update(train_loss=[[1]]), NONSENSE),
    "history that starts at 5": (lambda c: c["history"].update(epoch=[5]), NONSENSE),
    "history is a list": (lambda c: c.update(history=[1]), NONSENSE),
    "torch generator": (
        lambda c: c["rng"].update(torch=torch.zeros(3, dtype=torch.uint8)),
        "generators is none",
    ),
    "numpy generator": (
        lambda c: c["rng"].update(numpy=("MT19937", torch.zeros(3), 0, 0, 0.0)),
        "generators is none",
    ),
}
# These belong to a fit, and are looked at when one goes on.
UNSOUND_FIT: dict[str, tuple[Callable[[Any], None], str]] = {
    "schedule is a text": (lambda c: c.update(scheduler="x"), "state of its schedule"),
    "schedule of another length": (
        lambda c: c["scheduler"].update(total_steps=99),
        "total_steps 99, here it is 12",
    ),
    "schedule that has not moved": (
        lambda c: c["scheduler"].update(last_epoch=0),
        "taken 0 steps, its epochs have 4",
    ),
    "schedule without a count": (lambda c: c["scheduler"].update(last_epoch="x"), "last_epoch 'x'"),
    "loader's generator": (
        lambda c: c["loaders"]["train"].update(generator=torch.zeros(2)),
        "state of a generator",
    ),
    "memory of another model": (
        lambda c: c["callbacks"][0][1].update(parameters={"a": torch.ones(1)}),
        "the memory of EarlyStopping lacks",
    ),
    "memory is a text": (lambda c: c.update(callbacks=["x"]), "cannot resume"),
    "count is a text": (lambda c: c["callbacks"][0][1].update(waited="x"), "cannot resume"),
}


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize("how", UNSOUND)
def test_what_is_unsound_is_refused_and_nothing_has_changed(how: str, tmp_path: Path) -> None:
    change, reason = UNSOUND[how]
    fit(trainer(), tmp_path / "c.pt")
    rewritten(tmp_path / "c.pt", change)
    other = trainer(1)
    other.train_batch(SPLIT.x, SPLIT.y)
    before = copy.deepcopy(capture(other.state))
    with pytest.raises(CheckpointError, match=reason):
        other.load_checkpoint(tmp_path / "c.pt")
    same(before, capture(other.state))
    with pytest.raises(CheckpointError, match=reason):
        fit(other, tmp_path / "c.pt", resume=True)
    same(before, capture(other.state))


@pytest.mark.parametrize("how", UNSOUND_FIT)
def test_what_a_fit_cannot_go_on_from_is_refused_and_nothing_has_changed(
    how: str, tmp_path: Path
) -> None:
    change, reason = UNSOUND_FIT[how]
    fit(trainer(), tmp_path / "c.pt")
    rewritten(tmp_path / "c.pt", change)
    other = trainer(1)
    before = copy.deepcopy(capture(other.state))
    with pytest.raises(CheckpointError, match=reason):
        fit(other, tmp_path / "c.pt", resume=True)
    same(before, capture(other.state))


def same(a: Any, b: Any, path: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (one, two) in enumerate(zip(a, b, strict=True)):
            same(one, two, f"{path}.{number}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b or (a != a and b != b), f"{path}: {a} {b}"


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_moments_laid_out_by_the_file_are_laid_out_anew(optimizer: str, tmp_path: Path) -> None:
    # One number that calls itself a matrix, and one that lies in memory the other way round.
    def lay(content: Any) -> None:
        for entry in content["optimizer"]["state"]["state"].values():
            for key, value in entry.items():
                if isinstance(value, torch.Tensor) and value.ndim == 2:
                    entry[key] = (
                        value.mT.contiguous().mT
                        if key != "exp_avg_sq"
                        else value[:1, :1].expand(value.shape)
                    )

    first = trainer(optimizer=optimizer)
    fit(first, tmp_path / "c.pt")
    rewritten(tmp_path / "c.pt", lay)
    other = trainer(1, optimizer)
    other.load_checkpoint(tmp_path / "c.pt")
    for parameter, entry in other.optimizer.state.items():
        for value in entry.values():
            if isinstance(value, torch.Tensor) and value.ndim:
                assert value.stride() == parameter.stride() and value.shape == parameter.shape
    other.train_batch(SPLIT.x, SPLIT.y)
    assert all(bool(torch.isfinite(p).all()) for p in other.model.parameters())


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.Adam,
        lambda ps: torch.optim.Adam(ps, amsgrad=True),
        torch.optim.AdamW,
        torch.optim.SGD,
        lambda ps: torch.optim.SGD(ps, momentum=0.9, nesterov=True),
        torch.optim.RMSprop,
        lambda ps: torch.optim.RMSprop(ps, momentum=0.5, centered=True),
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.Adamax,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.ASGD,
        torch.optim.Rprop,
        torch.optim.Adafactor,
        lambda ps: torch.optim.SGD(
            [{"params": [p], "lr": 0.1 + 0.1 * i} for i, p in enumerate(ps)], lr=0.2
        ),
    ],
)
def test_what_optimisers_write_is_sound(make: Any, tmp_path: Path) -> None:
    def build(seed: int) -> EqPropTrainer:
        return EqPropTrainer(
            ConvEqProp(1, [2, 3], 10, image_size=8, seed=seed), optimizer=make, free_steps=5
        )

    first, path = build(0), tmp_path / "c.pt"
    first.fit(SPLIT.batches(48), 1, checkpoint_path=path)
    second = build(1)
    second.load_checkpoint(path)
    for t in (first, second):
        t.train_batch(SPLIT.x, SPLIT.y)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    own = first.optimizer.state_dict()
    assert check_optimizer(first.optimizer, own)["state"].keys() == own["state"].keys()


def test_a_mask_of_infinities_is_no_damage(tmp_path: Path) -> None:
    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top = torch.nn.Linear(64, 10)
            self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.top(x.flatten(1))

    path = EqPropTrainer(Masked(), "autograd").save_checkpoint(tmp_path / "c.pt")
    EqPropTrainer(Masked(), "autograd").load_checkpoint(path)
    assert np.isinf(torch.load(path, weights_only=True)["model"]["state"]["mask"].numpy()).any()
