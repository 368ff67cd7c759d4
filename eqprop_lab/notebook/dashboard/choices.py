"""What a tab of the dashboard offers, and the experiment that its values ask for.

    preset + model + width -> model;  data;  estimator, learning rate, batch, epochs -> training

A preset is a short name for a model and its width: `following` keeps the three in step, whichever
of them the reader moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eqprop_lab.datasets.corpora import TINY_SHAKESPEARE
from eqprop_lab.datasets.torchvision_sets import VISION as SETS, data_dir
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from eqprop_lab.experiments.presets import get_model_config, list_presets, preset_model
from eqprop_lab.experiments.sections import SIZES
from eqprop_lab.notebook.controls import Choice, Control, Slider

NO_PRESET = "none"
OWN = "the model's own"
SEQ_LEN = 64


@dataclass(frozen=True)
class Kind:
    """One tab: `models` with the argument that is their width, `presets` and data by name.

    training, options: of every experiment of this kind, in the sections `training` and `data`.
    epochs, width, rate: where their sliders start.
    """

    title: str
    models: Mapping[str, str]
    presets: Sequence[str]
    data: Sequence[str]
    epochs: int
    width: int
    rate: float
    batch: int
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def controls(self) -> list[Control]:
        """The controls, in the order in which one chooses."""
        presets, models = [NO_PRESET, *self.presets], list(self.models)
        return [
            Choice("preset", presets, NO_PRESET, "preset"),
            Choice("model", models, models[0], "model"),
            Slider("width", 8, 512, self.width, 8, "width", "units or channels"),
            Choice("data", list(self.data), self.data[0], "data"),
            Choice("estimator", [OWN, *ESTIMATORS], OWN, "estimator"),
            Slider("lr", 1e-4, 1e-1, self.rate, 0.1, "learning rate", log=True),
            Choice("batch_size", [8, 16, 32, 64, 128], self.batch, "batch size"),
            Slider("epochs", 1, 100, self.epochs, 1, "epochs"),
            Slider("seed", 0, 99, 0, 1, "seed"),
        ]

    def following(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
        """What else moves along: a preset brings model and width; either of them drops it."""
        chosen = now["preset"]
        if chosen == NO_PRESET:
            return {}
        model = preset_model(chosen)
        width = get_model_config(chosen)[self.models[model]]
        if chosen != before["preset"]:
            return {"model": model, "width": width}
        return {} if (now["model"], now["width"]) == (model, width) else {"preset": NO_PRESET}

    def config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The four sections of an experiment file for the values of the controls."""
        chosen = values["preset"]
        if chosen == NO_PRESET:
            params = {self.models[values["model"]]: values["width"]}
            model = {"name": values["model"], "params": params}
        else:
            known = get_model_config(chosen)
            left_to_data = {name: None for name in SIZES if name in known}
            model = {"preset": chosen, "params": left_to_data}
        training = {
            "epochs": values["epochs"],
            "batch_size": values["batch_size"],
            "learning_rate": values["lr"],
            **self.training,
        }
        if values["estimator"] != OWN:
            training["gradient"] = values["estimator"]
        return {
            "model": model,
            "training": training,
            "data": {"dataset": values["data"], **self.options},
            "experiment": {"name": "dashboard", "seed": values["seed"]},
        }


def vision() -> Kind:
    """Images: the digits, and those published sets that lie in the data folder."""
    models = {
        "LoopedMLP": "hidden_dim",
        "ConvEqProp": "hidden_channels",
        "BackpropMLP": "hidden_dim",
        "resnet8": "width",
    }
    names = [n for n in ("mnist", "fashion_mnist", "kmnist", "cifar10") if _is_here(SETS[n].file)]
    return Kind(
        "Vision",
        models,
        _presets_of(models),
        ["digits", *names],
        epochs=10,
        width=64,
        rate=0.02,
        batch=32,
        training={"schedule": "one_cycle"},
    )


def language() -> Kind:
    """Text, character by character: Python's help topics, Shakespeare's plays if they are here."""
    models = dict.fromkeys(
        (
            "HybridEqPropLM",
            "EqPropAttentionOnlyLM",
            "FullEqPropLM",
            "RecurrentEqPropLM",
            "LoopedMLPForLM",
            "TransformerEqProp",
            "BackpropTransformerLM",
        ),
        "hidden_dim",
    )
    plays = ["tiny_shakespeare"] if _is_here(TINY_SHAKESPEARE.file) else []
    return Kind(
        "Language",
        models,
        _presets_of(models),
        ["python_docs", *plays],
        epochs=4,
        width=32,
        rate=0.02,
        batch=16,
        training={"schedule": "one_cycle", "clip_norm": 1.0, "tol": 1e-4},
        options={"seq_len": SEQ_LEN, "limit": 400, "validation": 50},
    )


def _presets_of(models: Mapping[str, str]) -> list[str]:
    return [name for name in list_presets(constructible=True) if preset_model(name) in models]


def _is_here(file: str) -> bool:
    return (data_dir() / file).exists()
