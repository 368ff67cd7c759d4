"""Archives of JPEG files become class folders, byte for byte, wholly or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eqprop_lab.datasets import build_dataset
from tools.unpack_cifar10 import ArchiveError, main, read_archive, unpack

CLASSES = ("cat", "dog")


def jpeg(value: int) -> bytes:
    """An 8x8 picture of one grey."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


def write(path: Path, count: int, first: int = 5, **other: object) -> list[bytes]:
    """An archive of `count` pictures of alternating class, greys from `first` on; returns the files
    in it.
    """
    files = [jpeg(20 * i + first) for i in range(count)]
    arrays: dict[str, object] = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(count, dtype=np.uint8) % 2,
        "classes": np.array(CLASSES),
    }
    np.savez(path, **(arrays | other))  # type: ignore[arg-type]
    return files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a training archive of twelve pictures and a test archive of four."""
    folder = tmp_path / "source"
    folder.mkdir()
    write(folder / "train.npz", 12)
    write(folder / "test.npz", 4, first=15)
    return folder


def test_files_are_unpacked_as_they_are(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "images"
    assert main([str(source), str(target)]) == 0
    assert capsys.readouterr().out.endswith("images: 12 train images, 4 test images\n")
    files = write(tmp_path / "again.npz", 12)
    assert (target / "train" / "dog" / "00003.jpg").read_bytes() == files[3]
    assert sorted(p.name for p in (target / "test" / "cat").iterdir()) == ["00000.jpg", "00002.jpg"]
    data = build_dataset({"name": "image_folder", "root": target, "validation": 4})
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 4, 4)
    assert data.classes == CLASSES and data.input_shape == (3, 8, 8)
    # Picture i is 20 i + 15 everywhere, and its class is i % 2.
    number = (data.test.x.mean(dim=(1, 2, 3)) * 255 - 15) / 20
    assert (number.round().long() % 2 == data.test.y).all() and (
        number - number.round()
    ).abs().max() < 0.1


def test_a_part_can_be_asked_for(source: Path, tmp_path: Path) -> None:
    assert unpack(source, tmp_path / "few", limit=5) == {"train": 5, "test": 4}
    assert len(list((tmp_path / "few" / "train").rglob("*.jpg"))) == 5
    with pytest.raises(ValueError, match="limit must be an integer >= 1, got 0"):
        unpack(source, tmp_path / "none", limit=0)


def test_nothing_is_overwritten(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "images"
    target.mkdir()
    assert main([str(source), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err and list(target.iterdir()) == []


def test_a_failure_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        unpack(source, tmp_path / "images")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_other_archives_are_refused(source: Path, tmp_path: Path) -> None:
    path = source / "train.npz"
    whole = path.read_bytes()
    cases: list[tuple[dict[str, object], str]] = [
        ({"classes": np.array(["cat", "../dog"])}, "different names that can be folders"),
        ({"classes": np.array(["cat", "cat"])}, "different names that can be folders"),
        ({"labels": np.arange(12)}, "labels must be 0 to 1"),
        ({"labels": np.zeros(11)}, "one more entry than labels"),
        ({"offsets": np.arange(13)}, "offsets must go from 0"),
        ({"jpeg": np.zeros(5), "offsets": np.zeros(13)}, "length of jpeg"),
    ]
    for other, message in cases:
        write(path, 12, **other)
        with pytest.raises(ArchiveError, match=message):
            read_archive(path)
    files = write(path, 12)
    for broken in (files[0] + b"\x00" * len(files[1]) + b"".join(files[2:]), None):
        offsets = np.cumsum([0, *map(len, files)])
        if broken is None:
            offsets[1] = 0
            broken = b"".join(files)
        write(path, 12, jpeg=np.frombuffer(broken, np.uint8), offsets=offsets)
        with pytest.raises(ArchiveError, match="image [01] is no JPEG file"):
            read_archive(path)
    np.savez(path, jpeg=np.zeros(1, np.uint8))
    with pytest.raises(ArchiveError, match="lacks the arrays offsets, labels, classes"):
        read_archive(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="is damaged"):
        read_archive(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"SOURCE must hold train\.npz and test\.npz"):
        unpack(source, tmp_path / "images")


def test_parts_of_different_sets_are_refused(source: Path, tmp_path: Path) -> None:
    write(source / "test.npz", 4, classes=np.array(["cat", "fox"]))
    with pytest.raises(ArchiveError, match="different classes"):
        unpack(source, tmp_path / "images")
    assert not (tmp_path / "images").exists()
