"""A fit starts without another fit's memory, and what it leaves on the disk is what it reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eqprop_lab import EqPropTrainer, LoopedMLP, StopTraining, build_dataset
from eqprop_lab.commands import evaluate, train as train_command
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.comparing import rerun
from eqprop_lab.experiments.runs import Run, RunError, RunStore, fingerprint
from eqprop_lab.training import CheckpointError, EarlyStopping, ModelCheckpoint
from eqprop_lab.training.checkpoint import read
from eqprop_lab.training.loggers import CSVLogger, JSONLogger

DATA = build_dataset("digits")
SMALL = Split(DATA.train.x[:120], DATA.train.y[:120])
HELD = Split(DATA.validation.x[:60], DATA.validation.y[:60])


def trainer(seed: int = 0, **options: Any) -> EqPropTrainer:
    return EqPropTrainer(LoopedMLP(64, 8, 10, seed=seed), lr=0.01, **options)


def loader() -> Any:
    return SMALL.batches(40, shuffle=True, seed=3)


class Script:
    """Writes a curve over; from the number of the epoch, so that it has no memory of its own."""

    def __init__(self, values: list[float], name: str = "val_loss") -> None:
        self.name, self.values = name, values
        self.prints: dict[int, str] = {}

    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        record[self.name] = self.values[record["epoch"] - 1]
        self.prints[record["epoch"]] = fingerprint(trainer.model)


class Stop:
    """A user who presses stop, or pulls a plug."""

    def __init__(
        self, epoch: int, error: type[BaseException] = StopTraining, batch: int | None = None
    ) -> None:
        self.at, self.error = (epoch, batch), error

    def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
        if self.at == (trainer.history.epochs + 1, batch):
            raise self.error

    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        if self.at == (record["epoch"], None):
            raise self.error


FALLING_THEN_RISING = [3.0, 1.0, 2.0, 2.0, 2.0, 0.5, 2.0, 2.0]


def test_a_callback_used_again_does_not_end_with_the_first_model() -> None:
    stop = EarlyStopping(patience=2)
    first, second = trainer(0), trainer(1)
    first.fit(loader(), 5, callbacks=[Script(FALLING_THEN_RISING), stop])
    # Worse than anything the first has seen, and never better than its own start.
    script = Script([9.0, 9.5, 9.6, 9.7])
    second.fit(loader(), 4, callbacks=[script, stop])
    assert second.history["epoch"] == [1, 2, 3] and fingerprint(second.model) == script.prints[1]


@pytest.mark.parametrize("how", ["stop", "batch", "interrupt", "failing callback"])
def test_a_second_fit_of_one_trainer_counts_anew_however_the_first_ended(how: str) -> None:
    stop, t = EarlyStopping(patience=2), trainer()
    end = {
        "stop": Stop(2),
        "batch": Stop(3, batch=2),
        "interrupt": Stop(2, KeyboardInterrupt, 1),
        "failing callback": Stop(2, OSError),
    }[how]
    script = Script([1.0] * 3 + [5.0, 4.0, 4.5, 4.6, 4.7])
    try:
        t.fit(loader(), 3, callbacks=[script, stop, end])
    except (KeyboardInterrupt, OSError):
        assert how in ("interrupt", "failing callback")
    done = t.history.epochs
    script.values = [0.0] * done + [5.0, 4.0, 4.5, 4.6, 4.7]
    t.fit(loader(), 5, callbacks=[script, stop])
    assert t.history.epochs == done + 4 and fingerprint(t.model) == script.prints[done + 2]


def test_a_best_file_belongs_to_its_fit(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best.pt", save="best")
    trainer().fit(loader(), 2, callbacks=[Script([0.1, 0.2]), best])
    trainer(1).fit(loader(), 3, callbacks=[Script([3.0, 2.0, 2.5]), best])
    assert read(tmp_path / "best.pt")["history"]["epoch"] == [1, 2]


def test_a_best_file_is_not_overwritten_by_a_worse_epoch_of_the_resumed_fit(tmp_path: Path) -> None:
    values, path = [3.0, 1.0, 2.0, 1.5], tmp_path / "last.pt"

    def best() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / "best.pt", save="best")

    trainer().fit(loader(), 4, callbacks=[Script(values), best(), Stop(2)], checkpoint_path=path)
    trainer().fit(
        loader(), 4, callbacks=[Script(values), best()], checkpoint_path=path, resume=True
    )
    assert read(tmp_path / "best.pt")["history"]["epoch"] == [1, 2]


def test_a_memory_of_another_trainer_is_not_gone_on_with() -> None:
    stop, a, b, script = (
        EarlyStopping(patience=3),
        trainer(0),
        trainer(1),
        Script([2.0, 1.0, 1.5, 1.6, 1.7, 1.8]),
    )
    whole = trainer(0)
    whole.fit(loader(), 6, callbacks=[script, EarlyStopping(patience=3)])
    a.fit(loader(), 6, callbacks=[script, stop, Stop(3)])
    b.fit(loader(), 2, callbacks=[Script([0.1, 0.2]), stop])
    a.fit(loader(), 6, callbacks=[script, stop], resume=True)
    assert a.history["epoch"] == whole.history["epoch"] == [1, 2, 3, 4, 5]
    assert fingerprint(a.model) == fingerprint(whole.model) == script.prints[2]


@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger])
def test_a_logger_used_again_holds_the_second_fit_only(kind: Any, tmp_path: Path) -> None:
    logger = kind(tmp_path / "log")
    trainer().fit(loader(), 3, callbacks=[logger])
    trainer(1).fit(loader(), 1, callbacks=[logger])
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_callbacks_that_would_count_twice_or_not_at_all_are_refused() -> None:
    stop, t = EarlyStopping("train_loss"), trainer()
    with pytest.raises(ValueError, match="named once: EarlyStopping would count every epoch twice"):
        t.fit(loader(), 1, callbacks=[stop, stop])
    with pytest.raises(TypeError, match="got the class EarlyStopping; call it"):
        t.fit(loader(), 1, callbacks=[EarlyStopping])
    assert t.history == {}


# -- what is stored


def early_stopped(
    path: Path, epochs: int = 6, resume: bool = False
) -> tuple[EqPropTrainer, Script]:
    t, script = trainer(), Script(FALLING_THEN_RISING)
    t.fit(
        loader(),
        epochs,
        HELD.batches(60),
        [script, EarlyStopping(patience=3)],
        checkpoint_path=path,
        resume=resume,
    )
    return t, script


def test_an_early_stopped_fit_stores_its_best_and_keeps_it_when_resumed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    first, script = early_stopped(path)
    assert (
        first.history["epoch"] == [1, 2, 3, 4, 5] and fingerprint(first.model) == script.prints[2]
    )
    for _ in range(2):
        again, _ = early_stopped(path, resume=True)
        assert fingerprint(again.model) == script.prints[2] and again.history["epoch"] == [
            1,
            2,
            3,
            4,
            5,
        ]
        loaded = trainer(5)
        loaded.load_checkpoint(path)
        assert fingerprint(loaded.model) == script.prints[2]
    assert (
        first.fit(
            loader(), 6, HELD.batches(60), [script, EarlyStopping(patience=3)], resume=True
        ).epochs
        == 5
        and fingerprint(first.model) == script.prints[2]
    )


@pytest.mark.parametrize("where", ["file", "process"])
def test_a_fit_that_gave_back_its_best_goes_on_from_its_last(where: str, tmp_path: Path) -> None:
    values = [1.0, 2.0, 0.5, 3.0, 3.0, 0.1]

    def stopping() -> list[Any]:
        return [Script(values), EarlyStopping(patience=4)]

    whole = trainer()
    whole.fit(loader(), 6, HELD.batches(60), stopping())
    parted, path = trainer(), tmp_path / "c.pt"
    ends = iter((2, 4, None))
    for end in ends:
        if where == "file":
            parted = trainer()
        callbacks = [*stopping(), *([] if end is None else [Stop(end)])]
        torch.rand(3)  # somebody looks at something in between
        parted.fit(loader(), 6, HELD.batches(60), callbacks, checkpoint_path=path, resume=True)
        if where == "process":
            path = tmp_path / f"{end}.pt"
        if end is not None:
            assert read(tmp_path / "c.pt")["last"] is not None
    curves = ("epoch", "train_loss", "val_accuracy", "residual", "norm")
    assert [parted.history[name] for name in curves] == [whole.history[name] for name in curves]
    assert fingerprint(parted.model) == fingerprint(whole.model)


def test_two_that_give_back_go_on_from_the_last_too(tmp_path: Path) -> None:
    def stopping() -> list[Any]:
        one, two = Script([1.0, 2.0, 0.5, 3.0]), Script([2.0, 1.0, 1.5, 0.5], "val_accuracy")
        return [one, two, EarlyStopping(patience=4), EarlyStopping("val_accuracy", patience=4)]

    whole, path = trainer(), tmp_path / "c.pt"
    whole.fit(loader(), 4, callbacks=stopping())
    trainer().fit(loader(), 4, callbacks=[*stopping(), Stop(2)], checkpoint_path=path)
    second = trainer()
    second.fit(loader(), 4, callbacks=stopping(), checkpoint_path=path, resume=True)
    assert second.history["train_loss"] == whole.history["train_loss"]


def test_a_fit_without_validation_gives_back_by_what_it_has() -> None:
    t, script = trainer(), Script([1.0, 0.5, 0.7, 0.8], "train_loss")
    t.fit(loader(), 4, callbacks=[script, EarlyStopping("train_loss", patience=2)])
    assert fingerprint(t.model) == script.prints[2]
    with pytest.raises(ValueError, match="pass val_loader to fit"):
        trainer().fit(loader(), 1, callbacks=[EarlyStopping()])


@pytest.mark.parametrize(
    "end", [None, Stop(2), Stop(3, batch=2), Stop(3, KeyboardInterrupt, 1), Stop(3, OSError)]
)
def test_a_run_stores_what_it_reports_however_it_ends(end: Stop | None, tmp_path: Path) -> None:
    run, t, script = RunStore(tmp_path).create({"x": 1}), trainer(), Script(FALLING_THEN_RISING)
    callbacks = [script, EarlyStopping(patience=3), *([] if end is None else [end]), run]
    try:
        t.fit(loader(), 5, callbacks=callbacks)
    except (KeyboardInterrupt, OSError):
        assert end is not None and end.error is not StopTraining
    loaded = trainer(7)
    loaded.load_checkpoint(run.checkpoint)
    assert (
        run.parameters == fingerprint(loaded.model)
        and run.history["epoch"] == loaded.history["epoch"]
    )
    assert run.history["train_loss"] == loaded.history["train_loss"]
    if end is None:
        assert run.parameters == script.prints[2]


def test_a_disk_that_fills_up_leaves_a_run_that_agrees_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, t = RunStore(tmp_path).create({"x": 1}), trainer()
    genuine = t.save_checkpoint

    def full(path: Path) -> Path:
        if t.history.epochs == 2:
            raise OSError(28, "No space left on device", str(path))
        return genuine(path)

    monkeypatch.setattr(t, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        t.fit(loader(), 3, callbacks=[run])
    assert run.history["epoch"] == read(run.checkpoint)["history"]["epoch"] == [1]


def test_a_run_holds_one_training(tmp_path: Path) -> None:
    run = RunStore(tmp_path).create({"x": 1})
    t = trainer()
    t.fit(loader(), 2, callbacks=[run])
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    for other in (t, trainer(1)):
        with pytest.raises(RunError, match=f"run {run.id} holds a training of 2 epochs"):
            other.fit(loader(), 1, callbacks=[run])
    assert before == {path.name: path.read_bytes() for path in run.folder.iterdir()}
    t.fit(loader(), 3, callbacks=[Run(run.folder)], resume=True, checkpoint_path=run.checkpoint)
    assert run.history["epoch"] == [1, 2, 3]


CONFIG: dict[str, Any] = {
    "model": {"name": "LoopedMLP", "params": {"hidden_dim": 8, "max_steps": 6}},
    "training": {
        "epochs": 12,
        "batch_size": 16,
        "learning_rate": 0.2,
        "nudged_steps": 4,
        "early_stopping": 1,
    },
    "data": {"dataset": "two_moons", "samples": 48, "seed": 3},
    "experiment": {"name": "small", "seed": 5},
}


def test_the_command_line_scores_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from eqprop_lab.experiments.config import parse_config, train_from_config

    path, runs = tmp_path / "c.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(CONFIG))
    assert train_command.main([str(path), "--runs", str(runs)]) == 0
    (run,) = RunStore(runs).runs()
    losses = run.history["val_loss"]
    assert len(losses) < 12 and min(losses) < losses[-1], "the recipe of this test stops early"
    scored = []
    for _ in range(2):
        capsys.readouterr()
        assert evaluate.main([str(run.folder)]) == 0
        said = capsys.readouterr().out
        scored.append(float(re.search(r"loss ([\d.]+)", said)[1]))
        assert f"after {len(losses)} epochs (the parameters kept from an earlier one)" in said
        assert train_command.main(["--resume", run.id, "--runs", str(runs)]) == 0
    assert scored == [pytest.approx(min(losses), abs=1e-4)] * 2
    assert rerun(run, train_from_config).exact
    trainer, _ = train_from_config(parse_config(CONFIG))
    assert fingerprint(trainer.model) == run.parameters


def test_a_full_disk_ends_the_command_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, runs = tmp_path / "c.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(CONFIG))
    genuine = EqPropTrainer.save_checkpoint

    def full(self: EqPropTrainer, path: Path) -> Path:
        if self.history.epochs == 2:
            raise OSError(28, "No space left on device", str(path))
        return genuine(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(EqPropTrainer, "save_checkpoint", full)
        assert train_command.main([str(path), "--runs", str(runs)]) == 1
    (run,) = RunStore(runs).runs()
    said = capsys.readouterr().err
    assert (
        said == f"error: [Errno 28] No space left on device: '{run.checkpoint}'; "
        f"go on with --resume {run.id}\n"
    )
    assert train_command.main(["--resume", run.id, "--runs", str(runs)]) == 0
    assert run.history.epochs > 2


def test_a_resumed_fit_with_another_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    trainer().fit(
        loader(),
        4,
        callbacks=[EarlyStopping("train_loss", patience=3), Stop(2)],
        checkpoint_path=path,
    )
    for callbacks, reason in (
        ([], "a memory were EarlyStopping, now they are none"),
        (
            [EarlyStopping("train_loss", patience=4)],
            r"patience, restore_best = \(3, True\), now \(4, True\)",
        ),
        ([EarlyStopping("train_loss", patience=3, min_delta=0.1)], "min_delta"),
        ([EarlyStopping("residual", patience=3)], "monitor"),
        ([EarlyStopping("train_loss", patience=3, restore_best=False)], "restore_best"),
        (
            [
                EarlyStopping("train_loss", patience=3),
                ModelCheckpoint(tmp_path / "b.pt", "best", "train_loss"),
            ],
            "were EarlyStopping, now they are EarlyStopping, ModelCheckpoint",
        ),
    ):
        t = trainer(3)
        before = fingerprint(t.model)
        with pytest.raises(CheckpointError, match=reason):
            t.fit(loader(), 4, callbacks=callbacks, checkpoint_path=path, resume=True)
        assert fingerprint(t.model) == before and t.history == {} and t.state.plan is None
