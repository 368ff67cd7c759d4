"""Data sets by name: the frozen split, points in the plane, and bad configs named."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from eqprop_lab import build_dataset
from eqprop_lab.datasets.built_in import digit_rows


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_mnist(root: Path, train: int = 30, test: int = 10, name: str = "MNIST") -> np.ndarray:
    """Random images in the published layout of MNIST, or of the set of that name; all of them."""
    images = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28))
    for part, rows in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(root / f"{name}/raw/{part}-images-idx3-ubyte", images[rows])
        write_idx(root / f"{name}/raw/{part}-labels-idx1-ubyte", np.arange(len(images[rows])) % 10)
    return images


def test_the_digits_are_those_that_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    assert np.array_equal(digit_rows(), np.c_[theirs.data, theirs.target])


def test_digits_split_is_frozen_disjoint_complete_and_stratified() -> None:
    data = build_dataset("digits")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1257, 180, 360]
    whole = torch.cat([s.x.flatten(1) for s in (data.train, data.validation, data.test)])
    assert len(torch.unique(whole, dim=0)) == 1797
    for part in (data.validation, data.test):
        share = torch.bincount(part.y, minlength=10) / len(part)
        assert (
            share - torch.bincount(data.train.y, minlength=10) / len(data.train)
        ).abs().max() < 0.01
    assert hashlib.sha256(data.test.x.numpy().tobytes()).hexdigest()[:16] == "d9c340e72bfeb49a"
    assert (
        data.input_shape == (1, 8, 8)
        and data.input_dim == 64
        and data.classes == tuple("0123456789")
    )
    assert (
        data.train.x.min() == 0 and data.train.x.max() == 1 and data.train.x.dtype == torch.float32
    )


@pytest.mark.parametrize("name", ["two_moons", "xor"])
def test_plane_sets_are_balanced_and_not_linearly_separable(name: str) -> None:
    data = build_dataset({"name": name, "samples": 300, "noise": 0.05, "seed": 3})
    assert data.input_shape == (2,) and int(data.train.y.sum()) == 150
    assert not torch.equal(data.train.x, data.test.x)
    x = torch.cat([data.train.x, torch.ones(300, 1)], 1)
    weights = torch.linalg.lstsq(x, 2.0 * data.train.y.float()[:, None] - 1).solution
    linear = ((x @ weights).squeeze(1) > 0) == (data.train.y == 1)
    nearest = torch.cdist(data.test.x, data.train.x).argmin(1)
    assert linear.float().mean() < 0.93 < (data.train.y[nearest] == data.test.y).float().mean()


def test_bad_configs_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'kmnist'"):
        build_dataset("kmnits")
    with pytest.raises(ValueError, match="'digits', .*'cifar100', got 'pictures'"):
        build_dataset("pictures")
    with pytest.raises(ValueError, match="image_folder config.*did you mean 'channels'"):
        build_dataset({"name": "image_folder", "chanels": 3})
    with pytest.raises(ValueError, match="needs a 'name'"):
        build_dataset({"samples": 3})
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        build_dataset({"name": "xor", "noize": 0.1})
    with pytest.raises(ValueError, match="digits config"):
        build_dataset({"name": "digits", "limit": 3})
    with pytest.raises(ValueError, match="samples"):
        build_dataset({"name": "xor", "samples": 0})
    with pytest.raises(ValueError, match="validation"):
        build_dataset({"name": "mnist", "validation": 0})
