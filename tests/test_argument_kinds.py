"""Every argument of every public callable, by kind: what it refuses, naming itself, and which
numbers it takes.

The table must name every argument there is, so that a new one cannot come without its kind.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eqprop_lab
import eqprop_lab.training
from eqprop_lab import acceleration
from eqprop_lab.datasets.ngrams import ngram_loss
from eqprop_lab.datasets.splits import Batches, Split
from eqprop_lab.datasets.token_batches import TokenBatches
from eqprop_lab.equilibrium import norms
from eqprop_lab.experiments.runs import Run, RunStore
from eqprop_lab.instruments.probes import inject_noise_and_relax, measured_rate
from eqprop_lab.models.language.budget import within_budget
from eqprop_lab.models.single_state import SingleStateConv
from eqprop_lab.training.loggers import CSVLogger, JSONLogger, TensorBoardLogger, WandbLogger
from eqprop_lab.validation import shown

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
BOMB: Any = [[[["lol"] * 9] * 9] * 9] * 9
for _ in range(20):
    BOMB = [BOMB] * 9
WRONG: dict[str, list[Any]] = {
    "int": [True, 1.5, "3", NAN, -1, HUGE, 2**63, 10**5000, np.float64(2.0), np.True_, 1j, BOMB],
    "size": [0],  # besides those of "int"
    "real": [
        "x",
        True,
        NAN,
        INF,
        -INF,
        HUGE,
        10**5000,
        np.float32("nan"),
        np.True_,
        1j,
        [0.1],
        torch.ones(2),
        BOMB,
    ],
    "switch": ["no", "false", "True", 1, 0, 0.0, NAN, [], BOMB],
    "seed": [1.5, "0", True, -1, 2**32, HUGE, NAN, 10**5000, BOMB],
    "choice": ["nonsense", "", 3, NAN, True, ["adam"], "x" * 10**6, BOMB],
    "path": [3, 1.5, "", "a\0b", b"x", ["x"], BOMB],
    "device": ["tpu", "nonsense", 3.5, "cuda:99", "", ["cpu"], BOMB],
    "sizes": [
        "3",
        1.5,
        True,
        [],
        [3, 1.5],
        [3, True],
        [3, -1],
        [3, 0],
        [3, "4"],
        {3: 4},
        HUGE,
        BOMB,
    ],
}
GOOD: dict[str, list[Any]] = {
    "size": [np.int64(3), np.uint8(3)],
    "real": [np.float32(0.25), np.float64(0.25), np.int64(1), 1],
    "switch": [np.True_, np.False_],
    "seed": [np.int64(3), np.uint8(0), 2**32 - 1],
}
X, Y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 1])


def mlp() -> eqprop_lab.LoopedMLP:
    return eqprop_lab.LoopedMLP(64, 5, 3, seed=0, max_steps=3)


LANGUAGE = eqprop_lab.TransformerEqProp.from_text("abcab", 4, 1, 4, seed=0)


def exported(path: Any, **how: Any) -> None:
    """An export of a small model, into a folder of its own where the path is right."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, path) if path == "x.onnx" else path
        eqprop_lab.export_to_onnx(mlp(), target, **how)


PHASES = {
    "estimator": "choice",
    "beta": "real",
    "free_steps": "size",
    "nudged_steps": "size",
    "tol": "real",
}
PHASES |= {"cost": "choice", "solver": "choice", "points": "size"}
LAYERED = {
    "gamma": "real",
    "rho": "real",
    "use_spectral_norm": "switch",
    "max_steps": "size",
    "seed": "seed",
}
IMAGES = {
    "input_channels": "size",
    "hidden_channels": "sizes",
    "output_dim": "size",
    "seed": "seed",
}
IMAGES |= {"image_size": "sizes", "kernel_size": "sizes", "strides": "sizes"}
PREDICTIVE = {"activation": "choice", "residual": "switch", "seed": "seed"}
CLASSES = {"num_classes": "size", "in_channels": "size", "seed": "seed"}
TRAINER = {
    "gradient": "choice",
    "optimizer": "choice",
    "lr": "real",
    "beta": "real",
    "free_steps": "size",
}
TRAINER |= {
    "nudged_steps": "size",
    "tol": "real",
    "solver": "choice",
    "eval_tol": "real",
    "weight_decay": "real",
}
TRAINER |= {
    "schedule": "choice",
    "cost": "choice",
    "clip_norm": "real",
    "amp": "switch",
    "use_compile": "switch",
    "quick_kernels": "switch",
    "use_kernel": "switch",
}
TRAINER |= {"device": "device", "progress": "switch"}
TOKENS = {
    "vocab_size": "size",
    "hidden_dim": "size",
    "num_layers": "size",
    "num_heads": "size",
    "max_seq_len": "size",
    "inner_dim": "size",
    "max_steps": "size",
    "seed": "seed",
}
ONE_LAYER = {name: kind for name, kind in TOKENS.items() if name != "num_layers"}
TWIN = {name: kind for name, kind in TOKENS.items() if name != "max_steps"}
WINDOW = {name: "size" for name in ("vocab_size", "hidden_dim", "embed_dim", "window")}
WINDOW |= {"seed": "seed"}
LM = {"vocab_size": 5, "hidden_dim": 4}
RULE = {"input_dim": "size", "hidden_dims": "sizes", "output_dim": "size", "activation": "choice"}
RULE |= {"use_spectral_norm": "switch", "rho": "real", "learning_rate": "real", "seed": "seed"}
SMALL_RULE: dict[str, Any] = {"input_dim": 4, "hidden_dims": [3, 3], "output_dim": 2}
SETTLES = {"beta": "real", "damping": "real", "free_steps": "size", "nudged_steps": "size"}
SETTLES |= {"tol": "real", "nudges": "choice"}
RULES: dict[str, dict[str, str]] = {
    "backprop": {name: kind for name, kind in RULE.items() if "dim" not in name},
    "sto_fa": {"drop": "real"},
    "eg_fa": {"kappa": "real"},
    "em_fa": {"cost_of_activity": "real"},
    "leq_fa": {"lateral_steps": "size"},
    "pc_hybrid": {"inference_steps": "size", "inference_rate": "real", "tied": "switch"},
    "eqprop": SETTLES,
    "mom_eq": {"momentum": "real"},
    "sparse_eq": {"keep": "real"},
    "cf_align": {"kappa": "real"},
}
CONV = {"input_channels": 1, "hidden_channels": [2, 3], "output_dim": 3, "image_size": 8}
KERNEL = torch.rand(2, 2, 3, 3)
CURVE = 0.5 ** torch.arange(40, dtype=torch.float64)[:, None]

# name -> (callable, arguments that work, kind of every argument that is checked, arguments of other
# kinds)
Entry = tuple[Callable[..., Any], dict[str, Any], dict[str, str], set[str]]
TABLE: dict[str, Entry] = {
    "Augmentation": (
        eqprop_lab.Augmentation,
        {},
        {"shift": "int", "crop": "int", "flip": "switch", "cutout": "int"},
        set(),
    ),
    "BackpropMLP": (
        eqprop_lab.BackpropMLP,
        {"input_dim": 4, "hidden_dim": 3, "output_dim": 2},
        {"input_dim": "size", "hidden_dim": "size", "output_dim": "size", "seed": "seed"},
        set(),
    ),
    "BackpropCNN": (eqprop_lab.BackpropCNN, CONV, IMAGES, set()),
    "ConvEqProp": (eqprop_lab.ConvEqProp, CONV, IMAGES | LAYERED, set()),
    "ResNetCifar": (
        eqprop_lab.ResNetCifar,
        {"depth": 8, "num_classes": 3, "width": 2},
        {"depth": "size", "width": "size", "shortcut": "choice"} | CLASSES,
        set(),
    ),
    "DenseNet3": (
        eqprop_lab.DenseNet3,
        {"depth": 10, "num_classes": 3, "growth_rate": 2},
        {"depth": "size", "growth_rate": "size", "reduction": "real", "bottleneck": "switch"}
        | {"dropRate": "real"}
        | CLASSES,
        set(),
    ),
    "SmallCNN": (
        eqprop_lab.SmallCNN,
        {"num_classes": 3, "channels": 2},
        {"channels": "sizes", "kernel_size": "size", "batch_norm": "switch", "dropout": "real"}
        | CLASSES,
        set(),
    ),
    "DeepEqProp": (
        eqprop_lab.DeepEqProp,
        {"input_dim": 4, "hidden_dims": [3, 3], "output_dim": 2},
        {"input_dim": "size", "hidden_dims": "sizes", "output_dim": "size"} | LAYERED,
        set(),
    ),
    "EquilibriumChain": (
        eqprop_lab.EquilibriumChain,
        {"input_dim": 4, "hidden_dims": [3, 3, 3, 3], "output_dim": 2},
        {"input_dim": "size", "hidden_dims": "sizes", "output_dim": "size", "num_blocks": "size"}
        | LAYERED,
        set(),
    ),
    **{
        name: (
            getattr(eqprop_lab, name),
            {"input_dim": 4, "hidden_dims": [3, 3], "output_dim": 2},
            {"input_dim": "size", "hidden_dims": "sizes", "output_dim": "size"} | PREDICTIVE,
            set(),
        )
        for name in ("PredictiveMLP", "FeedforwardMLP")
    },
    "PredictiveConv": (eqprop_lab.PredictiveConv, CONV, IMAGES | PREDICTIVE, set()),
    "FeedforwardConv": (eqprop_lab.FeedforwardConv, CONV, IMAGES | PREDICTIVE, set()),
    "LoopedMLP": (
        eqprop_lab.LoopedMLP,
        {"input_dim": 4, "hidden_dim": 3, "output_dim": 2},
        {
            "input_dim": "size",
            "hidden_dim": "size",
            "output_dim": "size",
            "use_spectral_norm": "switch",
        }
        | {"rho": "real", "max_steps": "size", "seed": "seed", "symmetric": "switch"},
        set(),
    ),
    "AdaptiveFeedbackMLP": (
        eqprop_lab.AdaptiveFeedbackMLP,
        SMALL_RULE,
        RULE | {"decay": "real", "feedback_rate": "real", "mirror": "switch"},
        set(),
    ),
    "EquilibriumAlignment": (
        eqprop_lab.EquilibriumAlignment,
        {"input_dim": 4, "hidden_dim": 3, "output_dim": 2},
        {"input_dim": "size", "hidden_dim": "size", "output_dim": "size", "max_steps": "size"}
        | {"use_spectral_norm": "switch", "rho": "real", "learning_rate": "real", "seed": "seed"},
        set(),
    ),
    "BioplausibleModel": (
        eqprop_lab.BioplausibleModel,
        {"algorithm": "eqprop", **SMALL_RULE},
        {"algorithm": "choice", "input_dim": "size", "hidden_dims": "sizes", "output_dim": "size"}
        | {"seed": "seed"},
        {"options"},
    ),
    **{
        f"BioplausibleModel {name}": (
            partial(eqprop_lab.BioplausibleModel, name, 4, [3, 3], 2),
            {},
            kinds,
            set(),
        )
        for name, kinds in RULES.items()
    },
    "alignment": (eqprop_lab.alignment, {}, {}, {"model", "x", "y"}),
    "compare_models": (
        partial(eqprop_lab.compare_models, ["backprop"]),
        {"dataset": "digits", "epochs": 1, "seeds": 1, "learning_rates": (0.01,)},
        {"parameters": "size", "epochs": "size", "seeds": "size"}
        | {"tuning_seeds": "size", "batch_size": "size", "optimizer": "choice", "path": "path"},
        {"models", "dataset", "metrics", "learning_rates", "seconds", "processes"},
    ),
    "ablation_study": (eqprop_lab.ablation_study, {}, {}, {"function"}),
    "sweep": (
        partial(eqprop_lab.sweep, lambda params, report: 1.0, {"a": [1]}),
        {"storage": "sweeps.db", "trials": None},
        {},
        {"train", "space", "trials", "study", "storage", "direction", "retries", "seed"}
        | {"heartbeat", "grace", "about", "executor"},
    ),
    "Ensemble": (eqprop_lab.Ensemble, {}, {}, {"models"}),
    "transfer": (
        partial(eqprop_lab.transfer, eqprop_lab.ResNetCifar(8, 3, 1, 2, seed=0)),
        {"num_classes": 3},
        {"num_classes": "size", "freeze": "choice", "seed": "seed", "keep_statistics": "switch"},
        {"model"},
    ),
    "distilled": (
        partial(eqprop_lab.distilled, mlp(), Split(X, Y)),
        {},
        {"weight": "real", "temperature": "real", "batch_size": "size"},
        {"teacher", "split"},
    ),
    "calibration": (
        partial(eqprop_lab.calibration, torch.full((4, 3), 1 / 3), Y),
        {},
        {"bins": "size"},
        {"probabilities", "labels"},
    ),
    "fit_temperature": (eqprop_lab.fit_temperature, {}, {}, {"logits", "labels"}),
    "list_algorithms": (eqprop_lab.list_algorithms, {}, {}, set()),
    "register_algorithm": (eqprop_lab.register_algorithm, {}, {}, {"name"}),
    "EqPropKernel": (
        eqprop_lab.EqPropKernel,
        {"input_dim": 4, "hidden_dim": 3, "output_dim": 2},
        {"input_dim": "size", "hidden_dim": "size", "output_dim": "size"}
        | {"use_spectral_norm": "switch", "rho": "real", "seed": "seed"}
        | {"free_steps": "size", "nudged_steps": "size", "estimator": "choice", "beta": "real"}
        | {"cost": "choice", "optimizer": "choice", "lr": "real", "dtype": "choice"}
        | {"arrays": "choice", "sigma": "choice", "graph": "switch"},
        {"free_units", "nudged_units"},
    ),
    "SingleStateConv": (
        SingleStateConv,
        {"input_channels": 1, "channels": 2, "output_dim": 3, "image_size": 8},
        {"input_channels": "size", "channels": "size", "output_dim": "size", "image_size": "sizes"}
        | {"rho": "real", "max_steps": "size", "seed": "seed"},
        set(),
    ),
    "FullEqPropLM": (eqprop_lab.FullEqPropLM, LM, TOKENS, set()),
    "EqPropAttentionOnlyLM": (eqprop_lab.EqPropAttentionOnlyLM, LM, TOKENS, set()),
    "RecurrentEqPropLM": (eqprop_lab.RecurrentEqPropLM, LM, ONE_LAYER, set()),
    "HybridEqPropLM": (eqprop_lab.HybridEqPropLM, LM, TOKENS | {"rho": "real"}, set()),
    "LoopedMLPForLM": (
        eqprop_lab.LoopedMLPForLM,
        LM,
        WINDOW | {"rho": "real", "max_steps": "size"},
        set(),
    ),
    "BackpropTransformerLM": (eqprop_lab.BackpropTransformerLM, LM, TWIN, set()),
    "BackpropWindowLM": (eqprop_lab.BackpropWindowLM, LM, WINDOW, set()),
    "EqPropLM": (eqprop_lab.EqPropLM, LM, {"variant": "choice"}, {"arguments"}),
    "get_eqprop_lm": (
        eqprop_lab.get_eqprop_lm,
        LM | {"name": "full"},
        {"name": "choice"},
        {"arguments"},
    ),
    "create_eqprop_lm": (
        eqprop_lab.create_eqprop_lm,
        LM | {"variant": "full", "num_layers": 1},
        {"variant": "choice", "scale": "real"}
        | {name: "size" for name in ("vocab_size", "hidden_dim", "num_layers")},
        {"fixed"},
    ),
    "within_budget": (
        within_budget,
        {"name": "full", "parameters": 3000, "vocab_size": 5},
        {"name": "choice", "parameters": "size"},
        {"fixed"},
    ),
    "list_eqprop_lm_variants": (eqprop_lab.list_eqprop_lm_variants, {}, {}, set()),
    "register_eqprop_lm": (eqprop_lab.register_eqprop_lm, {}, {}, {"name"}),
    "TransformerEqProp": (
        eqprop_lab.TransformerEqProp,
        LM | {"max_seq_len": 4},
        TOKENS | {"num_classes": "size"},
        set(),
    ),
    "generate": (
        lambda **kw: LANGUAGE.generate("a", **{"max_new_tokens": 2, **kw}),
        {},
        {"max_new_tokens": "size", "temperature": "real", "top_k": "size", "seed": "seed"}
        | {"context": "choice"},
        {"prompt", "stream"},
    ),
    "EquilibriumModel": (eqprop_lab.EquilibriumModel, {}, {}, {"max_steps"}),
    "EqPropTrainer": (lambda **kw: eqprop_lab.EqPropTrainer(mlp(), **kw), {}, TRAINER, {"model"}),
    "EqPropTrainer.fit": (
        lambda **kw: eqprop_lab.EqPropTrainer(mlp()).fit(Split(X, Y).batches(2), **kw),
        {"epochs": 1},
        {
            "epochs": "size",
            "validation_split": "real",
            "checkpoint_path": "path",
            "resume": "switch",
        },
        {"self", "train_loader", "val_loader", "callbacks"},
    ),
    "EqPropTrainer.save_checkpoint": (
        lambda **kw: eqprop_lab.EqPropTrainer(mlp()).save_checkpoint(**kw),
        {},
        {"path": "path"},
        {"self"},
    ),
    "EqPropTrainer.load_checkpoint": (
        lambda **kw: eqprop_lab.EqPropTrainer(mlp()).load_checkpoint(**kw),
        {},
        {"path": "path"},
        {"self"},
    ),
    "EquilibriumBlock": (
        lambda **kw: eqprop_lab.EquilibriumBlock(mlp(), **kw),
        {},
        {name: kind for name, kind in PHASES.items() if name != "cost"},
        {"model", "phases"},
    ),
    "estimate_gradients": (
        lambda **kw: eqprop_lab.estimate_gradients(mlp(), X, Y, **kw),
        {},
        PHASES,
        {"model", "x", "y"},
    ),
    "check_gradient": (
        lambda **kw: eqprop_lab.check_gradient(mlp(), X, Y, **kw),
        {},
        PHASES,
        {"model", "x", "y", "phases"},
    ),
    "check_model": (
        lambda **kw: eqprop_lab.check_model(mlp(), X, Y, **kw),
        {},
        {"beta": "real"},
        {"model", "x", "y"},
    ),
    "radius_of_validity": (
        lambda **kw: eqprop_lab.radius_of_validity(mlp(), X, Y, **kw),
        {},
        PHASES,
        {"model", "x", "y", "phases"},
    ),
    "Noisy": (
        lambda **kw: eqprop_lab.Noisy(mlp(), **kw),
        {},
        {"states": "real", "nudge": "real", "weights": "real", "each": "choice", "seed": "seed"},
        {"model", "state_bits", "weight_bits"},
    ),
    "NoiseLaw": (
        eqprop_lab.NoiseLaw,
        {"curvature": 0.1, "noise": 0.1},
        {"curvature": "real", "noise": "real", "order": "size"},
        set(),
    ),
    "NoiseLaw.error": (eqprop_lab.NoiseLaw(0.1, 0.1).error, {}, {"beta": "real"}, {"self"}),
    "noise_law": (
        lambda **kw: eqprop_lab.noise_law(eqprop_lab.Noisy(mlp(), states=0.1), X, Y, **kw),
        {},
        {"estimator": "choice", "bent_at": "real", "noisy_at": "real", "repeats": "size"},
        {"device", "x", "y", "how"},
    ),
    "relax": (
        lambda **kw: eqprop_lab.relax(mlp(), X, **kw),
        {},
        {"max_steps": "size", "tol": "real", "solver": "choice", "damping": "real"}
        | {"trajectory": "switch", "per_sample": "switch"},
        {"model", "x", "start", "nudge"},
    ),
    "inject_noise_and_relax": (
        partial(inject_noise_and_relax, mlp(), X),
        {},
        {"noise_level": "real", "injection_step": "size", "total_steps": "size"},
        {"model", "x", "generator"},
    ),
    "measured_rate": (
        partial(measured_rate, CURVE),
        {},
        {"high": "real", "low": "real"},
        {"curve"},
    ),
    "conv_norm": (
        partial(norms.conv_norm, KERNEL),
        {"image_size": 4},
        {
            "image_size": "sizes",
            "stride": "sizes",
            "dilation": "sizes",
            "groups": "size",
            "tol": "real",
        },
        {"kernel", "padding"},
    ),
    "conv_bound": (
        partial(norms.conv_bound, KERNEL),
        {},
        {"stride": "sizes", "dilation": "sizes", "groups": "size", "frequencies": "size"},
        {"kernel"},
    ),
    "torch_spectral_norm": (
        partial(norms.torch_spectral_norm, torch.rand(4, 4)),
        {},
        {"power_iterations": "size", "seed": "seed"},
        {"weight"},
    ),
    "measure_speed": (
        partial(eqprop_lab.measure_speed, mlp(), torch.rand(2, 64), torch.tensor([0, 1])),
        {"steps": 1, "compiled": False},
        {"gradient": "choice", "beta": "real", "free_steps": "size", "nudged_steps": "size"}
        | {"steps": "size", "compiled": "switch"},
        {"model", "x", "y"},
    ),
    "verify_spectral_norm": (
        partial(eqprop_lab.verify_spectral_norm, mlp()),
        {},
        {"input_shape": "sizes"},
        {"model"},
    ),
    "build_dataset two_moons": (
        lambda **kw: eqprop_lab.build_dataset({"name": "two_moons", **kw}),
        {},
        {"samples": "size", "noise": "real", "seed": "seed"},
        {"name_or_config"},
    ),
    "build_dataset": (
        lambda **kw: eqprop_lab.build_dataset(kw),
        {"name": "digits"},
        {"name": "choice"},
        {"name_or_config"},
    ),
    "build_dataset folder": (
        lambda **kw: eqprop_lab.build_dataset({"name": "image_folder", "root": "here", **kw}),
        {"root": "here"},
        {"root": "path", "size": "sizes", "channels": "size", "seed": "seed"},
        {"name_or_config"},
    ),
    "register_dataset": (
        eqprop_lab.register_dataset,
        {"name": "of_argument_kinds"},
        {"shape": "sizes", "classes": "size"},
        {"name", "augmentation", "measure"},
    ),
    "load_cifar_10": (
        eqprop_lab.load_cifar_10,
        {"root": "elsewhere"},
        {"batch_size": "int", "seed": "seed", "root": "path"},
        set(),
    ),
    "get_lm_dataset": (
        eqprop_lab.get_lm_dataset,
        {},
        {"name": "path", "seq_len": "size", "batch_size": "size", "split": "choice"}
        | {"level": "choice", "seed": "seed", "limit": "size"},
        {"vocab", "max_words"},
    ),
    "get_lm_dataset word": (
        partial(eqprop_lab.get_lm_dataset, level="word"),
        {},
        {"max_words": "size"},
        set(),
    ),
    "Vocabulary": (eqprop_lab.Vocabulary, {"symbols": "ab"}, {"level": "choice"}, {"symbols"}),
    "TokenBatches": (
        partial(TokenBatches, torch.arange(9)),
        {"seq_len": 2, "size": 2, "shuffle": True, "seed": 0}
        | {"vocab": eqprop_lab.Vocabulary("abcdefghi")},
        {"seq_len": "size", "size": "size", "shuffle": "switch", "seed": "seed"}
        | {"characters_per_token": "real"},
        {"tokens", "vocab"},
    ),
    "ngram_loss": (
        partial(ngram_loss, [0, 1] * 40, [0, 1, 0]),
        {"order": 2, "vocab_size": 2},
        {"order": "size", "vocab_size": "size"},
        {"train_tokens", "test_tokens"},
    ),
    "get_dataset_info": (
        eqprop_lab.get_dataset_info,
        {"name": "digits"},
        {"name": "choice"},
        set(),
    ),
    "get_model_config": (
        eqprop_lab.get_model_config,
        {"name": "mnist_tiny"},
        {"name": "choice"},
        {"overrides"},
    ),
    "create_model_preset": (
        eqprop_lab.create_model_preset,
        {"name": "mnist_tiny"},
        {"name": "choice"},
        {"overrides"},
    ),
    "load_config": (
        eqprop_lab.load_config,
        {"path": "digits_looped_mlp"},
        {"path": "path", "device": "device"},
        set(),
    ),
    "train_from_config": (eqprop_lab.train_from_config, {}, {}, {"config", "callbacks"}),
    "load_trained": (eqprop_lab.load_trained, {"name": "digits_conv"}, {"name": "choice"}, set()),
    "trained_info": (eqprop_lab.trained_info, {"name": "digits_conv"}, {"name": "choice"}, set()),
    "save_trained": (eqprop_lab.save_trained, {}, {}, {"model", "name", "info"}),
    "export_to_onnx": (
        exported,
        {"path": "x.onnx", "input_shape": [1, 64], "check": False},
        {"path": "path", "input_shape": "sizes", "check": "switch"}
        | {"dynamic_batch": "switch", "unroll": "switch"},
        {"model"},
    ),
    "make_app": (
        partial(eqprop_lab.make_app, torch.nn.Linear(1, 1)),
        {},
        {},
        {"models", "host", "limits"},
    ),
    "serve": (
        partial(eqprop_lab.serve, torch.nn.Linear(1, 1)),
        {},
        {},
        {"models", "host", "port", "limits"},
    ),
    "serving": (
        lambda **how: eqprop_lab.serving(torch.nn.Linear(1, 1), **how).__enter__(),
        {},
        {},
        {"models", "port", "limits"},
    ),
    "quantize": (
        eqprop_lab.quantize,
        {"path": "none.onnx"},
        {"path": "path", "target": "path", "method": "choice"},
        {"calibration", "test"},
    ),
    "compile_model": (
        lambda **kw: eqprop_lab.compile_model(mlp(), **kw),
        {},
        {"mode": "choice"},
        {"model", "options"},
    ),
    "count_parameters": (
        partial(eqprop_lab.count_parameters, mlp()),
        {},
        {"trainable_only": "switch"},
        {"model"},
    ),
    "compute_gradient_norm": (eqprop_lab.compute_gradient_norm, {}, {}, {"model"}),
    "estimate_memory_usage": (
        lambda **kw: eqprop_lab.estimate_memory_usage(mlp(), **kw),
        {"input_shape": [64]},
        {"input_shape": "sizes", "batch_size": "size", "gradient": "choice", "optimizer": "choice"},
        {"model", "options"},
    ),
    "Equilibrium": (
        eqprop_lab.Equilibrium,
        {},
        {},
        set(inspect.signature(eqprop_lab.Equilibrium).parameters),
    ),
    "LUTNetwork": (
        eqprop_lab.LUTNetwork,
        {"input_dim": 4, "output_dim": 2, "hidden_dim": [6]},
        {"input_dim": "size", "output_dim": "size", "hidden_dim": "sizes"}
        | {"node_input_dim": "size", "num_bits": "size", "low": "real", "high": "real"}
        | {"seed": "seed", "node_type": "choice", "layer_type": "choice"},
        set(),
    ),
    "ModelRegistry": (eqprop_lab.ModelRegistry, {}, {}, set()),
    "get_optimal_backend": (eqprop_lab.get_optimal_backend, {}, {}, set()),
    "check_cupy_available": (eqprop_lab.check_cupy_available, {}, {}, set()),
    "list_trained": (eqprop_lab.list_trained, {}, {}, set()),
    "pick_device": (acceleration.pick_device, {}, {"device": "device"}, set()),
    "enable_tf32": (acceleration.enable_tf32, {}, {"enabled": "switch"}, set()),
    "EarlyStopping": (
        eqprop_lab.training.EarlyStopping,
        {},
        {"patience": "size", "min_delta": "real", "mode": "choice", "restore_best": "switch"},
        {"monitor"},
    ),
    "Budget": (eqprop_lab.training.Budget, {"minutes": 1.0}, {"minutes": "real"}, set()),
    "ModelCheckpoint": (
        eqprop_lab.training.ModelCheckpoint,
        {"path": "x"},
        {"path": "path", "save": "choice", "mode": "choice"},
        {"monitor"},
    ),
    "seed_everything": (eqprop_lab.training.seed_everything, {"seed": 0}, {"seed": "seed"}, set()),
    "Batches": (
        partial(Batches, Split(X, Y)),
        {"size": 2, "shuffle": True, "seed": 0},
        {"size": "size", "shuffle": "switch", "seed": "seed"},
        {"split", "augment"},
    ),
    "Split.batches": (
        Split(X, Y).batches,
        {},
        {"batch_size": "size", "shuffle": "switch", "seed": "seed"},
        {"augment"},
    ),
    "Split.split": (
        Split(X, Y).split,
        {"fraction": 0.5},
        {"fraction": "real", "seed": "seed"},
        set(),
    ),
    "Split.to": (Split(X, Y).to, {"device": "cpu"}, {"device": "device"}, set()),
    "RunStore": (RunStore, {}, {"folder": "path"}, set()),
    "Run": (Run, {"folder": "x"}, {"folder": "path"}, set()),
    "CSVLogger": (CSVLogger, {}, {"path": "path"}, set()),
    "JSONLogger": (JSONLogger, {}, {"path": "path"}, set()),
    "TensorBoardLogger": (TensorBoardLogger, {}, {"folder": "path"}, set()),
    "WandbLogger": (WandbLogger, {}, {"folder": "path"}, {"project", "mode", "options"}),
}


def cases(of: dict[str, list[Any]]) -> list[Any]:
    return list(_cases(of))


def _cases(of: dict[str, list[Any]]) -> Iterator[Any]:
    for name, (_, _, kinds, _) in TABLE.items():
        for argument, kind in kinds.items():
            values = list(of.get(kind, []))
            if of is WRONG and kind == "size":
                values += WRONG["int"]
            for number, value in enumerate(values):
                yield pytest.param(name, argument, value, id=f"{name}-{argument}-{kind}{number}")


@pytest.fixture(autouse=True, scope="module")
def _a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Paths of the rows are relative, and a reader may make the folder it does not find."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("kinds"))
    yield
    os.chdir(before)


@pytest.mark.parametrize(("name", "argument", "value"), cases(WRONG))
def test_a_wrong_kind_is_refused_by_name(name: str, argument: str, value: Any) -> None:
    call, arguments, _, _ = TABLE[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call(**{**arguments, argument: value})
    text = str(caught.value)
    assert argument in text and "must" in text, text
    assert len(text) < 800, f"{len(text)} characters"
    if not isinstance(value, list | float):
        shortened = shown(value), str(value) if abs_is_small(value) else shown(value)
        assert any(part in text for part in shortened), text


def abs_is_small(value: Any) -> bool:
    return not isinstance(value, int) or abs(value) < 10**40


# Phases of three steps and fewer have not settled.
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:use_kernel=True computes with NumPy:UserWarning")
@pytest.mark.parametrize(("name", "argument", "value"), cases(GOOD))
def test_numbers_of_numpy_are_numbers(name: str, argument: str, value: Any) -> None:
    call, arguments, _, _ = TABLE[name]
    try:
        call(**{**arguments, argument: value})
    except eqprop_lab.DataUnavailable:
        pass  # of the folder that is not there: the number itself has been accepted
    except ValueError as error:
        # A range or a geometry may exclude the number; its kind is right.
        assert argument in str(error) and "np." not in str(error)
    except TypeError as error:
        pytest.fail(f"{argument}={value!r}: {error}")


def arguments_of(call: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(call).parameters)


def public_callables() -> dict[str, Callable[..., Any]]:
    public = {
        name: getattr(module, name)
        for module in (eqprop_lab, eqprop_lab.training)
        for name in module.__all__
        if callable(getattr(module, name))
        and not isinstance(getattr(module, name), type(eqprop_lab.model_registry))
    }
    public = {
        n: c
        for n, c in public.items()
        if not (isinstance(c, type) and issubclass(c, Exception | dict))
    }
    public |= {
        f"EqPropTrainer.{n}": getattr(eqprop_lab.EqPropTrainer, n)
        for n in ("fit", "save_checkpoint", "load_checkpoint")
    }
    public |= {
        "Run": Run,
        "RunStore": RunStore,
        "Batches": Batches,
        "TokenBatches": TokenBatches,
        "SingleStateConv": SingleStateConv,
        "generate": LANGUAGE.generate,
    }
    return public


def test_the_table_names_every_argument_of_the_public_callables() -> None:
    public = public_callables()
    missing = sorted(public.keys() - TABLE.keys())
    assert not missing, f"public callables without their kinds: {missing}"
    for name, call in public.items():
        _, _, kinds, others = TABLE[name]
        unknown = arguments_of(call) - kinds.keys() - others
        assert not unknown, f"{name}: arguments without a kind: {sorted(unknown)}"


MISSPELT = {
    "BioplausibleModel": ("dampning", "damping"),
    "EquilibriumBlock": ("free_step", "free_steps"),
    "check_gradient": ("nudge_steps", "nudged_steps"),
    "noise_law": ("free_step", "free_steps"),
    "radius_of_validity": ("solvers", "solver"),
    "estimate_memory_usage": ("free_step", "free_steps"),
    "compile_model": ("fulgraph", "fullgraph"),
    "get_model_config": ("hidden_dims", "hidden_dim"),
    "create_model_preset": ("hidden_dims", "hidden_dim"),
    "EqPropLM": ("num_head", "num_heads"),
    "get_eqprop_lm": ("max_seq_length", "max_seq_len"),
    "create_eqprop_lm": ("num_head", "num_heads"),
    "within_budget": ("inner_dims", "inner_dim"),
    "make_app": ("batches", "batch"),
    "serve": ("batches", "batch"),
    "serving": ("batches", "batch"),
}


def test_a_misspelt_argument_is_refused_with_the_nearest_one() -> None:
    """Also where a callable hands further arguments on: Python's own words name an inner one."""
    open_ended = {
        name
        for name, call in public_callables().items()
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(call).parameters.values())
    }
    assert open_ended == MISSPELT.keys()
    for name, (given, meant) in MISSPELT.items():
        call, arguments, _, _ = TABLE[name]
        with pytest.raises(ValueError, match=f"got '{given}'; did you mean '{meant}'"):
            call(**{**arguments, given: 3})
