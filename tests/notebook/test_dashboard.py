from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.experiments.config import parse_config
from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.notebook.dashboard import Dashboard, dashboard, tab
from eqprop_lab.notebook.dashboard.choices import NO_PRESET, OWN, Kind, language, vision
from eqprop_lab.notebook.dashboard.estimates import Needs, needs
from eqprop_lab.notebook.dashboard.language_tab import LanguageTab
from eqprop_lab.notebook.dashboard.runs_panel import RunsPanel
from eqprop_lab.notebook.dashboard.tab import TrainingTab
from eqprop_lab.notebook.dashboard.visit import RUNS, visitors_dashboard
from tests.waiting import PATIENCE, until

KINDS = [vision(), language()]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a configuration needs is measured in two tests, and not for every control that moves."""
    monkeypatch.setattr(tab, "needs", lambda config: Needs(7, 1.0, 0.5, config.model))


def values(kind: Kind, **others: Any) -> dict[str, Any]:
    return {control.name: control.value for control in kind.controls()} | others


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_every_model_and_preset_that_is_offered_makes_an_experiment(kind: Kind) -> None:
    for model in kind.models:
        config = parse_config(kind.config(values(kind, model=model)))
        assert config.model == model and config.params[kind.models[model]] == kind.width
    for preset in kind.presets:
        config = parse_config(kind.config(values(kind, preset=preset)))
        assert config.model in kind.models and config.data["name"] == kind.data[0]


def test_what_the_controls_say_is_what_is_trained() -> None:
    kind = vision()
    asked = values(kind, lr=0.003, batch_size=8, epochs=3, seed=5, estimator="one_sided", width=24)
    config = parse_config(kind.config(asked))
    assert (config.epochs, config.batch_size, config.seed) == (3, 8, 5)
    assert config.trainer["lr"] == 0.003 and config.trainer["gradient"] == "one_sided"
    assert config.params["hidden_dim"] == 24 and config.params["seed"] == 5
    assert "gradient" not in parse_config(kind.config(asked | {"estimator": OWN})).trainer


def test_a_preset_brings_model_and_width_and_either_of_them_drops_it() -> None:
    kind = vision()
    before = values(kind, model="ConvEqProp")
    chosen = before | {"preset": "mnist_medium"}
    brought = {"model": "LoopedMLP", "width": 256}
    assert kind.following(before, chosen) == brought
    now = chosen | brought
    assert kind.following(now, now) == {}
    assert kind.following(now, now | {"width": 64}) == {"preset": NO_PRESET}
    assert kind.following(now, now | {"model": "BackpropMLP"}) == {"preset": NO_PRESET}
    assert kind.following(now, now | {"preset": NO_PRESET}) == {}


def test_needs_are_counted_before_anything_starts() -> None:
    kind = vision()
    small, large = (
        needs(parse_config(kind.config(values(kind, width=width)))) for width in (64, 128)
    )
    assert small.parameters == 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert large.parameters > 2 * small.parameters and large.total_mb > small.total_mb
    assert small.gradient == "centered" and f"{small.parameters:,} parameters" in str(small)


def test_needs_of_a_text_are_those_of_its_windows() -> None:
    kind = language()
    asked = values(kind, model="LoopedMLPForLM", width=16)
    one, four = (needs(parse_config(kind.config(asked | {"batch_size": size}))) for size in (8, 32))
    assert four.states_mb == pytest.approx(4 * one.states_mb, rel=0.2)


@pytest.fixture
def seen(tmp_path: Path) -> TrainingTab:
    return TrainingTab(vision(), RunStore(tmp_path / "runs"))


def test_a_tab_trains_what_it_shows_and_keeps_the_run(seen: TrainingTab, tmp_path: Path) -> None:
    assert not (tmp_path / "runs").exists()
    seen.set(epochs=2, width=16)
    seen.start()
    assert seen.wait(PATIENCE) and seen.status == "finished"
    (run,) = RunStore(tmp_path / "runs").runs()
    assert run.history["val_accuracy"] == seen.history["val_accuracy"]
    assert run.config["model"]["params"]["hidden_dim"] == 16 and run.checkpoint.exists()
    assert {"train_loss", "residual", "norm"} <= set(seen.history)
    assert "validation loss" in seen.alt


def test_a_tab_says_before_start_what_cannot_be_trained(seen: TrainingTab) -> None:
    until(lambda: "7 parameters" in seen.needs)
    seen.set(model="BackpropMLP", estimator="centered")
    assert seen.needs.startswith("This cannot be trained. TypeError: gradient='centered'")
    assert 'role="alert"' in seen._card.value
    seen.set(estimator=OWN)
    assert "7 parameters" in seen.needs and "BackpropMLP" in seen.needs
    seen.set(preset="mnist_conv")
    assert seen.values["model"] == "ConvEqProp" and seen.values["width"] == 32
    seen.reset()
    assert seen.values["model"] == "LoopedMLP" and "LoopedMLP" in seen.needs


def test_the_needs_are_those_of_the_values_that_are_shown(
    seen: TrainingTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: "7 parameters" in seen.needs)

    def slow(config: Any) -> Needs:
        seen._controls.assign({"width": 8})
        return Needs(9, 1.0, 0.5, "late")

    monkeypatch.setattr(tab, "needs", slow)
    seen._say_needs(seen.values)
    assert "9 parameters" not in seen.needs


class _Writer:
    """A model that writes its prompt backwards, piece by piece."""

    def generate(self, prompt: str, *_: Any, stream: Any = None, **how: Any) -> str:
        for piece in reversed(prompt):
            stream(piece)
        return prompt + prompt[::-1]


class _Trained:
    model = _Writer()


def test_a_text_needs_a_model_that_stands_still(tmp_path: Path) -> None:
    tab = LanguageTab(language(), RunStore(tmp_path))
    tab.text.start("abc")
    assert tab.text.wait(PATIENCE) and "no model is trained yet" in str(tab.text.errors[0])
    tab.trainer = _Trained()
    tab.text.start("abc")
    assert tab.text.wait(PATIENCE) and tab.text.text == "abccba" and not tab.text.errors
    tab._after_epoch(_Trained())
    assert tab.sample == "The  ehT" and "The  ehT" in tab._sample.value
    tab._worker.status = "running"
    tab.text.start("abc")
    assert tab.text.wait(PATIENCE) and "press Pause" in str(tab.text.errors[0])
    tab._worker.status = "paused"
    tab.text.start("abc")
    assert tab.text.wait(PATIENCE) and tab.text.text == "abccba"
    tab._worker.status = "idle"
    tab.reset()
    assert tab.sample == ""
    tab.close()


def test_a_language_model_trains_and_writes_after_its_epochs(tmp_path: Path) -> None:
    tab = LanguageTab(language(), RunStore(tmp_path))
    tab.set(model="BackpropTransformerLM", width=8, epochs=1, batch_size=64)
    tab.start()
    assert tab.wait(PATIENCE) and tab.status == "finished"
    assert tab.sample.startswith("The ") and len(tab.sample) == 4 + 60
    tab.close()


def stored(store: RunStore, width: int) -> str:
    kind = vision()
    asked = values(kind, epochs=1, width=width, model="BackpropMLP")
    config = parse_config(kind.config(asked))
    tab.Experiment(config, store, lambda trainer: None).fit(None, 1)
    return store.runs()[-1].id


def test_runs_are_compared_and_damage_is_named(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    panel = RunsPanel(store)
    assert "No run yet" in panel._note.value and panel.table == ""
    a = stored(store, 8)
    panel.refresh()
    assert "1 runs." in panel._note.value and panel.table == ""
    b = stored(store, 16)
    panel.refresh()
    assert "model.params.hidden_dim" in panel.table and a in panel.alt and b in panel.alt
    assert "val accuracy" in panel.alt and "<img" in panel._picture.value
    panel.show(b, b)
    assert panel.table == "" and panel._picture.value == ""
    panel.show(b, a)
    (store.get(a).folder / "curves.json").write_text("{")
    panel.refresh()
    assert f"Cannot be read: {a}" in panel._note.value and "1 runs." in panel._note.value


def test_the_dashboard_has_four_tabs_and_refreshes_the_runs(
    tmp_path: Path, shown: list[Any]
) -> None:
    board = Dashboard(tmp_path)
    assert board._tabs.titles == ("Vision", "Language", "Runs", "Help")
    board.vision.set(epochs=1, model="BackpropMLP")
    board.vision.start()
    assert board.vision.wait(PATIENCE) and "1 runs." in board.runs._note.value
    assert board.errors == [] and board.alt.startswith("A dashboard with the tabs Vision")
    board._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown[0][0]
    assert board.alt in shown[1][0]["text/plain"] and "<img" in shown[1][0]["text/html"]
    board.close()


def test_usage_and_troubleshooting_are_a_tab() -> None:
    page = dashboard.usage_html()
    assert "<table>" in page and "make dashboard" in page and "Troubleshooting" in page


def test_visitors_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, str(tmp_path))
    one, other = visitors_dashboard(), visitors_dashboard()
    folders = [board.runs.store.folder for board in (one, other)]
    assert folders[0] != folders[1] and {folder.parent for folder in folders} == {tmp_path}
    assert not any(folder.exists() for folder in folders)
    for board in (one, other):
        board.close()


def test_both_tabs_may_train_at_once(tmp_path: Path) -> None:
    board = Dashboard(tmp_path)
    parts = (board.vision, "BackpropMLP"), (board.language, "BackpropTransformerLM")
    for part, model in parts:
        part.set(epochs=2, model=model, width=8, batch_size=64)
        part.start()
    assert [part.wait(PATIENCE) for part, _ in parts] == [True, True]
    assert [len(part.history["epoch"]) for part, _ in parts] == [2, 2]
    assert len(RunStore(tmp_path).runs()) == 2
    board.close()
