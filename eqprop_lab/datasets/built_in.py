"""Sets that need no files: the digits of scikit-learn, and two classes in the plane.

The stratified split of `digits` is frozen in ``assets/splits/digits.json``.
"""

from __future__ import annotations

import json
from functools import cache, partial
from importlib import resources
from importlib.metadata import distribution

import numpy as np
import torch

from eqprop_lab.datasets.augmentation import DRAWN
from eqprop_lab.datasets.registry import register_dataset
from eqprop_lab.datasets.splits import DataSet, Split
from eqprop_lab.validation import a_seed, positive_int, real


@cache
def digit_rows() -> np.ndarray:
    """A row an image: 64 pixels from 0 to 16, then the class; the file of sklearn's load_digits.

    Read without importing scikit-learn, which takes a second.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    return np.loadtxt(str(file), delimiter=",")


@register_dataset("digits", shape=(1, 8, 8), classes=10, augmentation=DRAWN)
def digits() -> DataSet:
    """1,797 images of 8x8 pixels, shipped with scikit-learn."""
    rows = torch.from_numpy(digit_rows())
    x = rows[:, :-1].float().div(16).reshape(-1, 1, 8, 8)
    y = rows[:, -1].long()
    file = resources.files("eqprop_lab").joinpath("assets/splits/digits.json")
    frozen = json.loads(file.read_text())
    parts = {part: Split(x[frozen[part]], y[frozen[part]]) for part in frozen}
    return DataSet("digits", **parts, classes=tuple("0123456789"))


def plane(name: str, samples: int = 400, noise: float = 0.1, seed: int = 0) -> DataSet:
    """two_moons or xor, for live decision boundaries; the splits are drawn independently."""
    samples = positive_int("samples", samples)
    noise = real("noise", noise, at_least=0.0)
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


for _name in ("two_moons", "xor"):
    register_dataset(_name, shape=2, classes=2)(partial(plane, _name))
