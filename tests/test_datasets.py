"""Data sets: the frozen split, the batch iterator, torchvision's loaders on local files, and honest errors offline."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from eqprop_lab import DataUnavailable, build_dataset
from eqprop_lab.datasets import VISION, data_dir


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_mnist(root: Path, train: int = 30, test: int = 10) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28))
    for part, rows in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(root / f"MNIST/raw/{part}-images-idx3-ubyte", images[rows])
        write_idx(root / f"MNIST/raw/{part}-labels-idx1-ubyte", np.arange(len(images[rows])) % 10)
    return images


def test_digits_split_is_frozen_disjoint_complete_and_stratified() -> None:
    data = build_dataset("digits")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1257, 180, 360]
    whole = torch.cat([s.x.flatten(1) for s in (data.train, data.validation, data.test)])
    assert len(torch.unique(whole, dim=0)) == 1797
    for part in (data.validation, data.test):
        share = torch.bincount(part.y, minlength=10) / len(part)
        assert (share - torch.bincount(data.train.y, minlength=10) / len(data.train)).abs().max() < 0.01
    assert hashlib.sha256(data.test.x.numpy().tobytes()).hexdigest()[:16] == "d9c340e72bfeb49a"
    assert data.input_shape == (1, 8, 8) and data.input_dim == 64 and data.classes == tuple("0123456789")
    assert data.train.x.min() == 0 and data.train.x.max() == 1 and data.train.x.dtype == torch.float32


def test_batches_cover_the_split_once_and_reshuffle() -> None:
    train = build_dataset("digits").train
    loader = train.batches(100, shuffle=True, seed=1)
    first, second = list(loader), list(loader)
    assert len(loader) == len(first) == 13
    assert torch.equal(torch.cat([y for _, y in first]).sort().values, train.y.sort().values)
    assert not torch.equal(first[0][0], second[0][0])
    again = list(train.batches(100, shuffle=True, seed=1))
    assert torch.equal(first[0][0], again[0][0])
    assert torch.equal(torch.cat([x for x, _ in train.batches(64)]), train.x)


def test_batches_refuse_a_bad_size() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        build_dataset("digits").train.batches(0)


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


def test_mnist_is_read_from_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_mnist(tmp_path)
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path
    data = build_dataset({"name": "mnist", "validation": 5})
    assert data.train.x.shape == (25, 1, 28, 28) and len(data.validation) == 5 and len(data.test) == 10
    assert torch.equal((data.train.x[0, 0] * 255).round().int(), torch.from_numpy(images[0]).int())
    assert data.train.y.tolist()[:3] == [0, 1, 2] and len(data.classes) == 10
    assert len(build_dataset({"name": "mnist", "validation": 5, "limit": 7}).train) == 7
    with pytest.raises(ValueError, match="must leave training images"):
        build_dataset({"name": "mnist", "validation": 30})


def test_colour_sets_become_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eqprop_lab import datasets

    class Fake:
        data = np.full((40, 32, 32, 3), 51, dtype=np.uint8)
        targets = [i % 10 for i in range(40)]
        classes = [f"class {i}" for i in range(10)]

    monkeypatch.setattr(datasets, "_load", lambda *_: Fake())
    data = build_dataset({"name": "cifar10", "validation": 10, "root": str(tmp_path)})
    assert data.train.x.shape == (30, 3, 32, 32) and data.train.x[0, 0, 0, 0] == pytest.approx(0.2)
    assert data.classes[3] == "class 3"


@pytest.mark.parametrize("name", VISION)
def test_missing_files_and_no_network_say_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    from eqprop_lab.vision_compat import import_torchvision

    import_torchvision()
    from torchvision import datasets as vision

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    for module in (vision.mnist, vision.svhn, vision.cifar):
        for function in ("download_url", "download_and_extract_archive"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, offline)
    if name == "svhn":
        pytest.importorskip("scipy")
    with pytest.raises(DataUnavailable, match="EQPROP_DATA_DIR") as caught:
        build_dataset({"name": name, "root": str(tmp_path)})
    assert VISION[name].file in str(caught.value) and str(tmp_path) in str(caught.value)


def test_bad_configs_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'kmnist'"):
        build_dataset("kmnits")
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


def test_without_a_choice_the_data_folder_is_the_project_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EQPROP_DATA_DIR", raising=False)
    assert data_dir().name in ("data", "eqprop_lab")
