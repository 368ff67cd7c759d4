from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.notebook import AlreadyRunning, Slider, TrainingCockpit
from eqprop_lab.notebook.curves import CURVES_WITH_LOSS
from eqprop_lab.training import StopTraining
from tests.waiting import PATIENCE, until

RATE = Slider("lr", 1e-4, 1e-1, 1e-2, 0.1, "learning rate", log=True)


class _Trainer:
    """Reports made-up epochs of three batches; waits in the second batch of the epoch `hold`, fails
    in `fail`.
    """

    progress = True

    def __init__(self, hold: int = 0, fail: int = 0, sized: bool = True) -> None:
        self.hold, self.fail, self.sized = hold, fail, sized
        self.holding, self.release = threading.Event(), threading.Event()

    def fit(
        self,
        train_loader: Any,
        epochs: int = 10,
        val_loader: Any = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        (watch,) = callbacks
        try:
            for epoch in range(1, epochs + 1):
                for batch in (1, 2, 3):
                    if epoch == self.hold and batch == 2:
                        self.holding.set()
                        self.release.wait(PATIENCE)
                    if epoch == self.fail:
                        raise ArithmeticError("the cost is not finite in /home/someone/x.py")
                    watch.on_batch_end(self, batch, 3 if self.sized else None)
                accuracy = epoch / 10
                watch.on_epoch_end(
                    self,
                    {"epoch": epoch, "train_accuracy": accuracy, "residual": 1e-4, "norm": 0.5},
                )
        except StopTraining:
            return


def _cockpit(trainer: _Trainer, **settings: Any) -> TrainingCockpit:
    return TrainingCockpit(lambda values: (trainer, [], None), [RATE], **({"epochs": 3} | settings))


def _interrupted() -> None:
    raise KeyboardInterrupt


def _closed_generator() -> None:
    raise GeneratorExit


def _find(cockpit: TrainingCockpit, css_class: str) -> Any:
    parts = [
        part
        for child in cockpit.widget.children
        for part in (child, *getattr(child, "children", ()))
    ]
    return next(part for part in parts if css_class in part._dom_classes)


def test_a_whole_run_fills_history_picture_and_sentence() -> None:
    trainer = _Trainer()
    cockpit = _cockpit(trainer)
    assert cockpit.alt.startswith("Three empty panels") and cockpit.status == "idle"
    empty = cockpit.png
    cockpit.start()
    assert cockpit.wait(PATIENCE) and cockpit.status == "finished" and cockpit.trainer is trainer
    assert cockpit.history["epoch"] == [1, 2, 3] and cockpit.history["train_accuracy"] == [
        0.1,
        0.2,
        0.3,
    ]
    assert (
        cockpit.alt.startswith("Curves after 3 of 3 epochs: training accuracy 0.3")
        and cockpit.png != empty
    )
    assert (
        cockpit.alt.endswith("Settings: learning rate 0.01.")
        and cockpit.alt in cockpit._picture.value
    )
    assert cockpit._progress.value == 1.0 and "Finished. 3 epochs done." in cockpit._line.value
    assert trainer.progress is False, "a progress bar would land in whatever cell runs"


def test_stop_ends_the_run_after_the_batch_and_keeps_the_finished_epochs() -> None:
    trainer = _Trainer(hold=2)
    cockpit = _cockpit(trainer)
    start, stop = _find(cockpit, "eqprop-start"), _find(cockpit, "eqprop-stop")
    assert stop.disabled
    start.click()
    assert (
        trainer.holding.wait(PATIENCE)
        and not stop.disabled
        and cockpit._controls.widgets["lr"].disabled
    )
    stop.click()
    assert cockpit.status == "stopping"
    trainer.release.set()
    assert cockpit.wait(PATIENCE) and cockpit.status == "stopped"
    assert (
        cockpit.history["epoch"] == [1]
        and stop.disabled
        and not cockpit._controls.widgets["lr"].disabled
    )


def test_a_second_start_is_refused_in_code_and_on_the_page() -> None:
    trainer = _Trainer(hold=1)
    cockpit = _cockpit(trainer)
    cockpit.start()
    assert trainer.holding.wait(PATIENCE)
    with pytest.raises(AlreadyRunning):
        cockpit.start()
    _find(cockpit, "eqprop-start").click()
    assert "Already running: press Stop first" in cockpit._line.value and cockpit._alert.value == ""
    with pytest.raises(RuntimeError, match="locked while the training runs"):
        cockpit.set(lr=0.1)
    trainer.release.set()
    assert cockpit.wait(PATIENCE) and cockpit.history["epoch"] == [1, 2, 3]


@pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_is_shown_without_folders_kept_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    uncaught: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)
    cockpit = _cockpit(_Trainer(fail=2))
    cockpit.start()
    with pytest.raises(ArithmeticError, match="not finite"):
        cockpit.wait(PATIENCE)
    assert cockpit.status == "failed" and [type(error) for error in cockpit.errors] == [
        ArithmeticError
    ]
    assert 'role="alert"' in cockpit._alert.value and "/home" not in cockpit._alert.value
    assert cockpit.history["epoch"] == [1] and uncaught[0].exc_type is ArithmeticError
    cockpit.reset()
    assert cockpit._alert.value == "" and cockpit.errors == [] and cockpit.status == "idle"


def test_reset_forgets_the_curves_and_restores_the_controls() -> None:
    cockpit = _cockpit(_Trainer())
    empty = cockpit.png
    cockpit.set(lr=0.05)
    cockpit.start()
    assert cockpit.wait(PATIENCE)
    _find(cockpit, "eqprop-reset").click()
    assert cockpit.history == {} and cockpit.values == {"lr": 0.01} and cockpit.png == empty
    assert cockpit._progress.value == 0.0


def test_reset_forgets_the_length_of_the_last_run() -> None:
    cockpit = TrainingCockpit(
        lambda values: (_Trainer(), [], None), [Slider("epochs", 1, 9, 2, 1, "epochs")]
    )
    empty = cockpit.png, cockpit.alt
    cockpit.set(epochs=3)
    cockpit.start()
    assert cockpit.wait(PATIENCE) and "of 3 epochs" in cockpit.alt
    cockpit.reset()
    assert (cockpit.png, cockpit.alt) == empty


def test_reset_of_a_run_that_does_not_end_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _Trainer(hold=1)
    cockpit = _cockpit(trainer)
    reset = cockpit._worker.reset
    monkeypatch.setattr(cockpit._worker, "reset", lambda: reset(0.02))
    cockpit.start()
    assert trainer.holding.wait(PATIENCE)
    with pytest.raises(RuntimeError, match="did not end"):
        cockpit._reset_by_hand()
    assert "did not end within 0.02 s" in cockpit._alert.value
    trainer.release.set()
    assert cockpit.wait(PATIENCE)


def test_a_moved_control_is_part_of_picture_and_sentence() -> None:
    cockpit = _cockpit(_Trainer())
    before = cockpit.png
    cockpit._controls.widgets["lr"].value = 0.02
    until(
        lambda: (
            cockpit.alt.endswith("Settings of the next run: learning rate 0.02.")
            and cockpit.png != before
        )
    )
    cockpit.start()
    assert cockpit.wait(PATIENCE) and cockpit.alt.endswith("Settings: learning rate 0.02.")


def test_epochs_can_be_a_control_and_a_loader_may_have_no_length() -> None:
    controls = [Slider("epochs", 1, 9, 2, 1, "epochs")]
    cockpit = TrainingCockpit(lambda values: (_Trainer(sized=False), [], None), controls, epochs=5)
    cockpit.start()
    assert cockpit.wait(PATIENCE) and cockpit.history["epoch"] == [1, 2]
    copy = _find(cockpit, "eqprop-copy")
    copy.click()
    assert _find(cockpit, "eqprop-parameters").value == "epochs: int = 2  # epochs"


def test_stop_during_the_preparation_trains_nothing() -> None:
    preparing, release = threading.Event(), threading.Event()

    def make(values: dict[str, Any]) -> tuple[Any, Any, Any]:
        preparing.set()
        release.wait(PATIENCE)
        return _Trainer(), [], None

    cockpit = TrainingCockpit(make, epochs=3)
    cockpit.start()
    assert preparing.wait(PATIENCE)
    cockpit.stop()
    release.set()
    assert cockpit.wait(PATIENCE) and cockpit.status == "stopped" and cockpit.history == {}


def test_a_run_is_shown_from_its_first_moment() -> None:
    """The former run's curves, settings, length and trainer are gone before the maker has returned
    anything.
    """
    making, release = threading.Event(), threading.Event()
    controls = [RATE, Slider("epochs", 1, 9, 2, 1, "epochs")]
    trainers = [_Trainer(), _Trainer()]

    def make(values: dict[str, Any]) -> tuple[Any, Any, Any]:
        if len(trainers) == 1:
            making.set()
            release.wait(PATIENCE)
        return trainers.pop(), [], None

    cockpit = TrainingCockpit(make, controls)
    cockpit.start()
    assert cockpit.wait(PATIENCE) and cockpit.alt.startswith("Curves after 2 of 2 epochs")
    old = cockpit.png
    cockpit.set(lr=0.05, epochs=7)
    cockpit.start()
    assert (
        cockpit.alt.startswith("The run has begun. Three empty panels")
        and "over 7 epochs" in cockpit.alt
    )
    assert cockpit.alt.endswith("Settings: learning rate 0.05, epochs 7.") and cockpit.png != old
    assert making.wait(PATIENCE) and cockpit.trainer is None and cockpit.history == {}
    assert "Preparing" in cockpit._line.value
    release.set()
    assert cockpit.wait(PATIENCE) and cockpit.history["epoch"] == list(range(1, 8))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "end", [lambda: sys.exit(3), lambda: sys.exit("no data"), _interrupted, _closed_generator]
)
def test_the_cockpit_survives_an_exit_in_the_maker(end: Callable[[], Any]) -> None:
    trainer, ends = _Trainer(), [end]
    cockpit = TrainingCockpit(
        lambda values: (trainer, [], None) if not ends else ends.pop()(), epochs=2
    )
    cockpit.start()
    with pytest.raises(
        RuntimeError, match="the task ended the run by (SystemExit|KeyboardInterrupt|GeneratorExit)"
    ):
        cockpit.wait(PATIENCE)
    assert (
        cockpit.status == "failed"
        and "ended the run" in cockpit._alert.value
        and len(cockpit.errors) == 1
    )
    assert _find(cockpit, "eqprop-stop").disabled
    cockpit.start()
    assert cockpit.wait(PATIENCE) and cockpit.status == "finished" and cockpit.errors == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("made", [None, _Trainer(), (_Trainer(), []), (None, [], None)])
def test_what_the_maker_must_return_is_said(made: Any) -> None:
    cockpit = TrainingCockpit(lambda values: made, epochs=2)
    cockpit.start()
    with pytest.raises(TypeError, match="make_trainer returned .*; a trainer with fit"):
        cockpit.wait(PATIENCE)


def test_start_right_after_the_end_is_no_second_start() -> None:
    """The thread still draws its last picture when the page says that it has finished."""
    cockpit, again = _cockpit(_Trainer(), epochs=1), threading.Event()
    starts: list[threading.Thread] = []

    def follow(change: dict[str, Any]) -> None:
        if change["new"] == "finished" and not starts:
            starts.append(threading.Thread(target=start_again))
            starts[0].start()

    def start_again() -> None:
        cockpit.start()
        again.set()

    cockpit._worker.observe(follow, names="status")
    cockpit.start()
    assert again.wait(PATIENCE) and cockpit.wait(PATIENCE) and cockpit.status == "finished"


def test_many_moves_of_a_control_share_a_redraw(monkeypatch: pytest.MonkeyPatch) -> None:
    cockpit, drawn = _cockpit(_Trainer()), []
    monkeypatch.setattr("eqprop_lab.notebook.cockpit.draw_curves", lambda *_: drawn.append(1))
    with cockpit._lock:
        for event in range(40):
            cockpit._controls.widgets["lr"].value = 0.01 + event / 1000
    until(lambda: cockpit._redraws._thread is None)
    assert "learning rate 0.049" in cockpit.alt and len(drawn) <= 2


@pytest.mark.parametrize("epochs", [0, True, 1.5])
def test_bad_epochs_are_refused(epochs: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="epochs must be an integer >= 1"):
        _cockpit(_Trainer(), epochs=epochs)


def test_make_trainer_is_a_function() -> None:
    with pytest.raises(TypeError, match="make_trainer is a _Trainer"):
        TrainingCockpit(_Trainer())  # type: ignore[arg-type]


def test_the_project_trainer_learns_in_it() -> None:
    data = build_dataset("digits")

    def make(values: dict[str, Any]) -> tuple[Any, Any, Any]:
        model = LoopedMLP(64, 32, 10, seed=0)
        trainer = EqPropTrainer(model, lr=values["lr"])
        return trainer, data.train.batches(64, shuffle=True, seed=0), data.validation.batches(256)

    cockpit = TrainingCockpit(make, [RATE], epochs=200)
    cockpit.start()
    until(lambda: len(cockpit.history.get("epoch", ())) >= 2 or bool(cockpit.errors))
    cockpit.stop()
    assert cockpit.wait(PATIENCE) and cockpit.status == "stopped"
    history = cockpit.history
    assert 2 <= len(history["epoch"]) < 200 and history["val_accuracy"][-1] > 0.3
    assert len(history["residual"]) == len(history["norm"]) == len(history["epoch"])
    assert all(norm < 0.9 for norm in history["norm"]) and "validation accuracy" in cockpit.alt


def test_a_pause_holds_the_run_between_two_batches_until_go_on() -> None:
    trainer = _Trainer(hold=2)
    cockpit = _cockpit(trainer)
    pause = _find(cockpit, "eqprop-pause")
    assert pause.disabled
    cockpit.start()
    assert trainer.holding.wait(PATIENCE) and not pause.disabled
    pause.click()
    trainer.release.set()
    assert cockpit.status == "paused" and pause.description == "Go on"
    assert not cockpit.wait(0.3) and cockpit.history["epoch"] == [1]
    assert "Paused" in cockpit._line.value and cockpit._controls.widgets["lr"].disabled
    pause.click()
    assert cockpit.wait(PATIENCE) and cockpit.history["epoch"] == [1, 2, 3]
    assert pause.disabled and pause.description == "Pause"


def test_stop_ends_a_pause_and_a_run_that_has_ended_cannot_be_paused() -> None:
    trainer = _Trainer(hold=1)
    cockpit = _cockpit(trainer)
    cockpit.start()
    assert trainer.holding.wait(PATIENCE)
    cockpit.pause()
    trainer.release.set()
    cockpit.stop()
    assert cockpit.wait(PATIENCE) and cockpit.status == "stopped"
    cockpit.pause()
    cockpit.go_on()
    assert cockpit.status == "stopped"


def test_a_cockpit_may_show_the_loss_too() -> None:
    class WithLoss(TrainingCockpit):
        panels = CURVES_WITH_LOSS

    cockpit = WithLoss(lambda values: (_Trainer(), [], None), [RATE], 3)
    assert cockpit.alt.startswith("Four empty panels for accuracy, loss, residual")
    assert [axes.get_title("left") for axes in cockpit._figure.axes] == [
        "Accuracy",
        "Loss",
        "Residual of the free phase",
        "Operator norm",
    ]
