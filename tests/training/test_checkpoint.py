"""A checkpoint gives back the same training bit for bit, survives a kill, and refuses what it
should not load.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab import BackpropMLP, EqPropTrainer, LoopedMLP, StopTraining, build_dataset
from eqprop_lab.datasets import Split
from eqprop_lab.training import CheckpointError, EarlyStopping
from eqprop_lab.training.checkpoint import capture, read
from tests.waiting import PATIENCE

DATA = build_dataset("digits")
SMALL = Split(DATA.train.x[:200], DATA.train.y[:200])


class Noisy(nn.Module):
    """Draws from the global generator in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.flatten(1))


class StopAfter:
    """Ends the fit after an epoch, like a user who presses Stop; uses up random numbers like one
    who looks.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        np.random.rand(3), random.random(), torch.rand(5)
        if record["epoch"] == self.epoch:
            raise StopTraining


def make(kind: str, **options: Any) -> EqPropTrainer:
    torch.manual_seed(1)
    if kind == "noisy":
        return EqPropTrainer(Noisy(), gradient="autograd", schedule="one_cycle", lr=0.01, **options)
    return EqPropTrainer(LoopedMLP(64, 16, 10, seed=0), schedule="one_cycle", lr=0.01, **options)


def same(a: object, b: object, path: str = "") -> None:
    """Equal bit for bit, wall time aside."""
    if isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), path
        for key in a.keys() - {"seconds", "callbacks"}:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple) and len(a) == len(b), path
        for i, (one, two) in enumerate(zip(a, b, strict=True)):
            same(one, two, f"{path}.{i}")
    elif isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), path
    else:
        assert a == b or (a != a and b != b), f"{path}: {a} {b}"


@pytest.mark.parametrize("kind", ["looped", "noisy"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_two_and_two_epochs_are_four(kind: str, optimizer: str, tmp_path: Path) -> None:
    def loader() -> Any:
        return SMALL.batches(32, shuffle=True, seed=5)

    torch.manual_seed(7)
    whole = make(kind, optimizer=optimizer)
    whole.fit(loader(), 4, DATA.validation.batches(90), [StopAfter(9)])

    first = make(kind, optimizer=optimizer)
    first.fit(
        loader(), 4, DATA.validation.batches(90), [StopAfter(2)], checkpoint_path=tmp_path / "c.pt"
    )
    assert first.history["epoch"] == [1, 2]
    np.random.seed(99), torch.manual_seed(99), random.seed(99)
    second = make(kind, optimizer=optimizer, weight_decay=0.0)
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.add_(1.0)
    second.fit(
        loader(),
        4,
        DATA.validation.batches(90),
        [StopAfter(9)],
        checkpoint_path=tmp_path / "c.pt",
        resume=True,
    )
    assert second.history["epoch"] == [1, 2, 3, 4] and second.state.resumed
    left, right = capture(whole.state), capture(second.state)
    assert whole.history["train_loss"][2] != whole.history["train_loss"][1]
    # NumPy's and Python's generators were seeded in the second process only: the checkpoint
    # overrules that.
    for content in (left, right):
        content["rng"].pop("python"), content["rng"].pop("numpy")
        # How the loaders are known again is no result, and noted in full only where a file is
        # written.
        content.pop("sources")
    same(left, right)


def test_generators_go_on_where_the_checkpoint_stopped(tmp_path: Path) -> None:
    trainer = make("looped")
    path = trainer.save_checkpoint(tmp_path / "c.pt")
    drawn = [(float(torch.rand(1)), float(np.random.randn()), random.random()) for _ in range(3)]
    trainer.load_checkpoint(path)
    assert [
        (float(torch.rand(1)), float(np.random.randn()), random.random()) for _ in range(3)
    ] == drawn


def test_a_checkpoint_between_update_and_read_holds_the_tracked_vectors(tmp_path: Path) -> None:
    x, y = SMALL.x, SMALL.y
    trainer = EqPropTrainer(LoopedMLP(64, 16, 10, seed=0), lr=0.05)
    for _ in range(3):
        trainer.train_batch(x, y)
    trainer.save_checkpoint(tmp_path / "c.pt")
    for _ in range(3):
        trainer.train_batch(x, y)
    other = EqPropTrainer(LoopedMLP(64, 16, 10, seed=9), lr=0.05)
    other.load_checkpoint(tmp_path / "c.pt")
    for _ in range(3):
        other.train_batch(x, y)
    same(dict(trainer.model.state_dict()), dict(other.model.state_dict()))


def test_load_and_fit_goes_on_counting_without_a_plan(tmp_path: Path) -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 8, 10, seed=0))
    trainer.fit(SMALL.batches(50, shuffle=True), 2, checkpoint_path=tmp_path / "deep" / "c.pt")
    trainer.fit(SMALL.batches(50), 1)
    trainer.load_checkpoint(tmp_path / "deep" / "c.pt")
    assert trainer.history["epoch"] == [1, 2]
    assert trainer.fit(SMALL.batches(50), 1)["epoch"] == [1, 2, 3] and not trainer.state.resumed


def test_resume_is_a_fit_when_there_is_nothing_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    trainer = make("looped")
    assert trainer.fit(SMALL.batches(50), 2, checkpoint_path=path, resume=True)["epoch"] == [1, 2]
    assert make("looped").fit(SMALL.batches(50), 2, checkpoint_path=path, resume=True)["epoch"] == [
        1,
        2,
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_a_fit_stopped_in_this_process_goes_on(tmp_path: Path) -> None:
    whole, parted = make("looped"), make("looped")
    whole.fit(SMALL.batches(50), 3)
    loader = SMALL.batches(50)
    parted.fit(loader, 3, callbacks=[StopAfter(1)])
    parted.fit(loader, 3, resume=True)
    same(dict(whole.model.state_dict()), dict(parted.model.state_dict()))
    assert parted.history["epoch"] == [1, 2, 3]


def test_early_stopping_keeps_its_count_across_an_interruption(tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("train_loss", patience=2, min_delta=100.0)

    first = make("looped")
    first.fit(
        SMALL.batches(50),
        5,
        callbacks=[StopAfter(2), stopping()],
        checkpoint_path=tmp_path / "c.pt",
    )
    for _ in range(2):
        second = make("looped")
        second.fit(
            SMALL.batches(50),
            5,
            callbacks=[stopping()],
            checkpoint_path=tmp_path / "c.pt",
            resume=True,
        )
        assert second.history["epoch"] == [1, 2, 3]


CHILD = """
    import os, signal, sys
    import torch
    from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
    from eqprop_lab.datasets import Split
    from eqprop_lab import files
    from eqprop_lab.training import checkpoint

    torch.set_num_threads(1)
    path, where = sys.argv[1:]
    data = build_dataset("digits").train
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

    class Killer:
        def on_batch_end(self, trainer, batch, batches):
            if where == "batch" and trainer.history.epochs == 2 and batch == 3:
                die()

        def on_epoch_end(self, trainer, record):
            if record["epoch"] != 3:
                return
            if where == "replace":
                os.replace = die
            if where == "write":
                whole = torch.save

                def half(content, file):
                    whole(content, file)
                    file.truncate(file.tell() // 2)
                    file.flush()
                    die()

                torch.save = half

    trainer = EqPropTrainer(LoopedMLP(64, 16, 10, seed=0), schedule="one_cycle", lr=0.01)
    loader = Split(data.x[:200], data.y[:200]).batches(32, shuffle=True, seed=5)
    trainer.fit(loader, 4, callbacks=[Killer()], checkpoint_path=path)
    print("survived")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("where", ["batch", "write", "replace"])
def test_resume_after_kill_9(where: str, tmp_path: Path, root: Path) -> None:
    path = tmp_path / "c.pt"
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path), where],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert child.returncode == -signal.SIGKILL and child.stdout == "", child.stderr
    assert len(read(path)["history"]["epoch"]) == 2
    # The part that a killed writer leaves is beside the file, never in its place.
    assert len(list(tmp_path.iterdir())) == (1 if where == "batch" else 2)

    whole, resumed = make("looped"), make("looped")
    whole.fit(SMALL.batches(32, shuffle=True, seed=5), 4)
    resumed.fit(SMALL.batches(32, shuffle=True, seed=5), 4, checkpoint_path=path, resume=True)
    assert resumed.history["train_loss"] == whole.history["train_loss"]
    same(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))


def test_parts_of_killed_writers_are_cleared_an_hour_later(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".c.pt.abc.part", tmp_path / ".c.pt.def.part"
    old.write_bytes(b"x"), fresh.write_bytes(b"x")
    os.utime(old, (1, 1))
    make("looped").save_checkpoint(tmp_path / "c.pt")
    assert not old.exists() and fresh.exists()


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, (str(Path(os.environ["EVIL"])),))


def spoil(path: Path, how: str) -> None:
    content: Any = torch.load(path, weights_only=True)
    if how == "absent":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        data = bytearray(path.read_bytes())
        at = data.find(content["model"]["state"]["W_in.weight"].numpy().tobytes()[:64])
        data[at + 7] ^= 1
        path.write_bytes(bytes(data))
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    elif how == "hostile":
        torch.save({**content, "config": Evil()}, path)
    elif how == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "not torch")
    elif how == "other file":
        torch.save({"weights": torch.ones(3)}, path)
    elif how == "history":
        torch.save({**content, "history": {"epoch": [1, 2], "train_loss": [0.1]}}, path)
    elif how == "plan":
        torch.save({**content, "plan": {"first": 1}}, path)
    elif how == "generator":
        torch.save({**content, "rng": {**content["rng"], "python": (3, (1, 2), None)}}, path)
    elif how == "text":
        torch.save(
            {
                **content,
                "model": {
                    **content["model"],
                    "state": {**content["model"]["state"], "W_in.bias": 3},
                },
            },
            path,
        )


SPOILED = {
    "absent": "no such file",
    "truncated": "cut off",
    "empty": "cut off",
    "one bit": "damaged .checksum",
    "pickle": "cut off, or it is no checkpoint",
    "hostile": "could run code",
    "archive": "damaged, or it is no checkpoint .RuntimeError",
    "other file": "is no 'eqprop_lab checkpoint 1'",
    "history": "history or plan is not",
    "plan": "history or plan is not",
    "generator": "the state of its generators is none",
    "text": "W_in.bias is int, the model's is float32",
}


@pytest.mark.parametrize("how", SPOILED)
def test_spoiled_files_are_refused_and_change_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    path = tmp_path / "c.pt"
    make("looped").fit(SMALL.batches(50), 1, checkpoint_path=path)
    spoil(path, how)
    trainer = EqPropTrainer(LoopedMLP(64, 16, 10, seed=2), lr=0.01)
    trainer.fit(SMALL.batches(100), 1)
    before = copy.deepcopy(capture(trainer.state))
    with pytest.raises(CheckpointError, match=rf"c\.pt.*{SPOILED[how]}"):
        trainer.load_checkpoint(path)
    same(before, capture(trainer.state))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("trainer", "reason"),
    [
        (lambda: EqPropTrainer(BackpropMLP(64, 16, 10), gradient="autograd"), "holds a LoopedMLP"),
        (
            lambda: EqPropTrainer(LoopedMLP(64, 8, 10)),
            r"W_in\.weight is float32 \(16, 64\), the model's is float32 \(8,",
        ),
        (lambda: EqPropTrainer(LoopedMLP(64, 16, 10).double()), "the model's is float64"),
        (
            lambda: EqPropTrainer(LoopedMLP(64, 16, 10), optimizer="sgd"),
            "state of Adam, not of SGD",
        ),
        (
            lambda: EqPropTrainer(
                LoopedMLP(64, 16, 10),
                optimizer=lambda ps: torch.optim.Adam([{"params": [p]} for p in ps]),
            ),
            "other parameter groups",
        ),
    ],
)
def test_another_model_is_refused(trainer: Any, reason: str, tmp_path: Path) -> None:
    path = make("looped").save_checkpoint(tmp_path / "c.pt")
    other = trainer()
    before = copy.deepcopy(capture(other.state))
    with pytest.raises(CheckpointError, match=reason):
        other.load_checkpoint(path)
    same(before, capture(other.state))


def test_a_model_with_other_parts_is_refused(tmp_path: Path) -> None:
    one, two = Noisy(), Noisy()
    two.extra = nn.Linear(2, 2)
    path = EqPropTrainer(one, gradient="autograd").save_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"it lacks extra\.bias, extra\.weight"):
        EqPropTrainer(two, gradient="autograd").load_checkpoint(path)
    EqPropTrainer(two, gradient="autograd").save_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"beyond the model, extra\.bias"):
        EqPropTrainer(one, gradient="autograd").load_checkpoint(path)


def test_resume_refuses_another_fit(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    make("looped").fit(SMALL.batches(50), 2, callbacks=[StopAfter(1)], checkpoint_path=path)
    changed = EqPropTrainer(LoopedMLP(64, 16, 10, seed=0), schedule="one_cycle", lr=0.02)
    with pytest.raises(CheckpointError, match=r"other settings: lr is 0\.01 there, 0\.02 here"):
        changed.fit(SMALL.batches(50), 2, checkpoint_path=path, resume=True)
    assert changed.history == {}
    with pytest.raises(CheckpointError, match="4 batches, train_loader has 5"):
        make("looped").fit(SMALL.batches(40), 2, checkpoint_path=path, resume=True)
    with pytest.raises(CheckpointError, match="laid out for 2 epochs, got 3"):
        make("looped").fit(SMALL.batches(50), 3, checkpoint_path=path, resume=True)
    with pytest.raises(
        CheckpointError, match="train loader is another one: it was 'Batches', now it is 'list'"
    ):
        make("looped").fit(list(SMALL.batches(50)), 2, checkpoint_path=path, resume=True)


def test_a_fit_left_inside_an_epoch_is_not_resumed(tmp_path: Path) -> None:
    class Halfway:
        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
            if batch == 2:
                trainer.save_checkpoint(tmp_path / "c.pt")
                raise StopTraining

    trainer = make("looped")
    trainer.fit(SMALL.batches(50), 2, callbacks=[Halfway()])
    assert trainer.history == {}
    with pytest.raises(CheckpointError, match="cannot resume inside epoch 1"):
        trainer.fit(SMALL.batches(50), 2, checkpoint_path=tmp_path / "c.pt", resume=True)
    assert trainer.fit(SMALL.batches(50), 1)["epoch"] == [1]


def test_what_no_checkpoint_can_hold_is_named_before_anything_is_written(tmp_path: Path) -> None:
    trainer = make("looped")
    path = trainer.save_checkpoint(tmp_path / "c.pt")
    before = path.read_bytes()
    trainer.history.append({"epoch": 1, "seen": np.float64(2.0)})
    with pytest.raises(CheckpointError, match=r"history\.seen\.0 is a float64"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
