"""Data sets by name, each with a fixed train / validation / test split.

`digits` (8x8 images, shipped with scikit-learn) is the default and needs no download; its
stratified split is frozen in ``assets/splits/digits.json``. The torchvision sets hold out the last
images of the published training set for validation; any folder of images is a data set too. Recipes
are chosen on `validation`; `test` is looked at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import torch

from eqprop_lab.datasets.image_folder import read_image_folder
from eqprop_lab.datasets.splits import Batches, DataSet, DataUnavailable, Split
from eqprop_lab.datasets.torchvision_sets import VISION, data_dir, read_vision_set
from eqprop_lab.validation import a_seed, known_keys, one_of, positive_int, real

__all__ = [
    "Batches",
    "DataSet",
    "DataUnavailable",
    "NAMES",
    "Split",
    "VISION",
    "build_dataset",
    "data_dir",
]

NAMES = ("digits", "two_moons", "xor", *VISION, "image_folder")
FOLDER_OPTIONS = ("root", "size", "channels", "validation", "seed", "limit", "ground")


def build_dataset(name_or_config: str | Mapping[str, Any]) -> DataSet:
    """Build a data set from its name or from {"name": ..., options}.

    Options: torchvision sets: `validation` (images held out, default 5000), `limit` (use the first
    n training images), `root`; image_folder: `root` (needed), `size`, `channels`, `validation`,
    `seed`, `limit`, `ground` (see `read_image_folder`); two_moons and xor: `samples` (400), `noise`
    (0.1), `seed` (0). Pixels are scaled to [0, 1], channels first. Raises: ValueError for unknown
    names or keys (the nearest known one is named) and for files that are no data set;
    DataUnavailable when files are missing or damaged.
    """
    config = {"name": name_or_config} if isinstance(name_or_config, str) else dict(name_or_config)
    if "name" not in config:
        raise ValueError(
            f"the data set config needs a 'name', one of {', '.join(NAMES)}; got keys {sorted(config)}"
        )
    name = one_of("name", config.pop("name"), NAMES)
    if name == "digits":
        known_keys("the digits config", config, ())
        return _digits()
    if name in VISION:
        known_keys(f"the {name} config", config, ("validation", "limit", "root"))
        return read_vision_set(name, **config)
    if name == "image_folder":
        known_keys("the image_folder config", config, FOLDER_OPTIONS)
        return read_image_folder(**config)
    known_keys(f"the {name} config", config, ("samples", "noise", "seed"))
    return _plane(name, **config)


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    x = torch.from_numpy(bundle.images).float().div(16).unsqueeze(1)
    y = torch.from_numpy(bundle.target).long()
    frozen = json.loads(
        resources.files("eqprop_lab").joinpath("assets/splits/digits.json").read_text()
    )
    train, validation, test = (
        Split(x[frozen[p]], y[frozen[p]]) for p in ("train", "validation", "test")
    )
    return DataSet("digits", train, validation, test, classes=tuple("0123456789"))


def _plane(name: str, samples: int = 400, noise: float = 0.1, seed: int = 0) -> DataSet:
    """Two classes in the plane, for live decision boundaries; the three splits are drawn
    independently.
    """
    samples, noise = positive_int("samples", samples), real("noise", noise, at_least=0.0)
    random = np.random.default_rng(a_seed("seed", seed))

    def draw() -> Split:
        y = np.arange(samples) % 2
        if name == "two_moons":
            angle = np.pi * random.random(samples)
            x = np.stack([np.cos(angle), np.sin(angle)], 1)
            x[y == 1] = np.array([1.0, 0.5]) - x[y == 1]
            x -= np.array([0.5, 0.25])
        else:
            corner = random.integers(0, 2, samples)
            x = np.stack([2.0 * corner - 1, 2.0 * (corner ^ y) - 1], 1)
        x = x + noise * random.standard_normal(x.shape)
        return Split(torch.from_numpy(x).float(), torch.from_numpy(y).long())

    return DataSet(name, draw(), draw(), draw(), classes=("0", "1"))
