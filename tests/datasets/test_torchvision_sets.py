"""torchvision's loaders on local files: what is read, and what is said when a file is missing or
damaged.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from eqprop_lab import DataUnavailable, build_dataset
from eqprop_lab.datasets import VISION, data_dir, torchvision_sets
from eqprop_lab.datasets.torchvision_sets import import_torchvision
from tests.datasets.test_datasets import write_idx, write_mnist


def test_mnist_is_read_from_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_mnist(tmp_path)
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path
    data = build_dataset({"name": "mnist", "validation": 5})
    assert (
        data.train.x.shape == (25, 1, 28, 28) and len(data.validation) == 5 and len(data.test) == 10
    )
    assert torch.equal((data.train.x[0, 0] * 255).round().int(), torch.from_numpy(images[0]).int())
    assert data.train.y.tolist()[:3] == [0, 1, 2] and data.classes == tuple("0123456789")
    assert len(build_dataset({"name": "mnist", "validation": 5, "limit": 7}).train) == 7
    with pytest.raises(ValueError, match="must leave training images"):
        build_dataset({"name": "mnist", "validation": 30})


def test_colour_sets_become_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        data = np.full((40, 32, 32, 3), 51, dtype=np.uint8)
        targets = [i % 10 for i in range(40)]
        classes = [f"class {i}" for i in range(10)]

    monkeypatch.setattr(torchvision_sets, "load", lambda *_: Fake())
    data = build_dataset({"name": "cifar10", "validation": 10, "root": str(tmp_path)})
    assert data.train.x.shape == (30, 3, 32, 32) and data.train.x[0, 0, 0, 0] == pytest.approx(0.2)
    assert data.classes[3] == "class 3"


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torchvision import datasets as vision

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    for module in (vision.mnist, vision.svhn, vision.cifar):
        for function in ("download_url", "download_and_extract_archive"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, offline)


@pytest.mark.parametrize("name", VISION)
def test_missing_files_and_no_network_say_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch)
    if name == "svhn":
        pytest.importorskip("scipy")
    with pytest.raises(DataUnavailable, match="EQPROP_DATA_DIR") as caught:
        build_dataset({"name": name, "root": str(tmp_path)})
    assert f"{VISION[name].file} is missing" in str(caught.value) and str(tmp_path) in str(
        caught.value
    )


IMAGES, LABELS = "MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/t10k-labels-idx1-ubyte"


@pytest.mark.parametrize("file", [IMAGES, LABELS])
@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x03", b"not idx at all, but long enough to be read"]
)
def test_a_damaged_idx_file_is_named(
    file: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch)
    write_mnist(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataUnavailable, match=f"{file} is damaged in the data folder.*Remove it"):
        build_dataset({"name": "mnist", "root": str(tmp_path), "validation": 5})


def test_a_cut_idx_file_beside_a_missing_one_and_labels_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch)
    config = {"name": "mnist", "root": str(tmp_path), "validation": 5}
    write_mnist(tmp_path)
    whole = (tmp_path / IMAGES).read_bytes()
    (tmp_path / IMAGES).write_bytes(whole[:-50])
    with pytest.raises(DataUnavailable, match=f"{IMAGES} is damaged"):
        build_dataset(config)
    (tmp_path / IMAGES).write_bytes(whole)
    (tmp_path / LABELS).unlink()
    with pytest.raises(DataUnavailable, match=f"{LABELS} is missing.*the download failed"):
        build_dataset(config)
    for labels, message in (
        (np.arange(9) % 10, "10 images, 9 labels"),
        (np.arange(10) + 5, "must be 0 to 9"),
    ):
        write_idx(tmp_path / LABELS, labels)
        with pytest.raises(DataUnavailable, match=message):
            build_dataset(config)


def write_pickled(
    monkeypatch: pytest.MonkeyPatch, root: Path, cls: Any, classes: int, counts: Mapping[str, int]
) -> Path:
    """Random images in the layout of CIFAR-10 (or CIFAR-100, the class `cls` of torchvision), one
    file a part of `counts` (train, test), taken for the published ones. Their folder.
    """
    key = "labels" if classes == 10 else "fine_labels"
    draw, folder, names = np.random.default_rng(0), root / cls.base_folder, cls.meta["key"]
    folder.mkdir()
    content: dict[str, dict[str, Any]] = {
        part: {
            "data": draw.integers(0, 256, (count, 3072), dtype=np.uint8),
            key: [i % classes for i in range(count)],
        }
        for part, count in counts.items()
    }
    content["meta"] = {names: [f"class {i}" for i in range(classes)]}
    digests = {}
    for name, one in content.items():
        (folder / name).write_bytes(pickle.dumps(one))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(cls, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(cls, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(cls, "meta", {"filename": "meta", "key": names, "md5": digests["meta"]})
    return folder


def test_damaged_and_missing_files_of_the_pickled_sets_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch)
    from torchvision.datasets import CIFAR10

    folder = write_pickled(monkeypatch, tmp_path, CIFAR10, 10, {"train": 20, "test": 20})
    batch = (folder / "test").read_bytes()
    config = {"name": "cifar10", "root": str(tmp_path), "validation": 4}
    data = build_dataset(config)
    assert data.train.x.shape == (16, 3, 32, 32) and data.classes[9] == "class 9"
    (folder / "test").write_bytes(batch[:-1])
    with pytest.raises(
        DataUnavailable, match="cifar-10-batches-py/test is damaged .* the download failed"
    ):
        build_dataset(config)
    (folder / "test").write_bytes(batch)
    (folder / "meta").unlink()
    with pytest.raises(DataUnavailable, match="cifar-10-batches-py/meta is missing"):
        build_dataset(config)


def test_without_a_choice_the_data_folder_is_the_project_s(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.delenv("EQPROP_DATA_DIR", raising=False)
    assert data_dir() == root / "data"
    monkeypatch.setattr(torchvision_sets, "checkout", lambda: None)
    assert data_dir() == Path.home() / ".cache" / "eqprop_lab"
