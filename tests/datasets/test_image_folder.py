"""Folders of images: the layouts, the split, one size or a given one, and every kind of damage
named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eqprop_lab import DataUnavailable, build_dataset
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.image_folder import measure_image_folder
from eqprop_lab.datasets.torchvision_sets import import_torchvision

CLASSES = ("ant", "bee", "cat")


def write_images(
    place: Path,
    count: int,
    size: tuple[int, int] = (6, 6),
    classes: Sequence[str] = CLASSES,
    start: int = 0,
) -> None:
    """`count` pictures in each class folder; the k-th of class c is one grey: 40 c + start + k."""
    for c, name in enumerate(classes):
        (place / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            Image.new("RGB", (size[1], size[0]), (40 * c + start + k,) * 3).save(
                place / name / f"{start + k:03}.png"
            )


def read(root: Path, **options: Any) -> DataSet:
    return build_dataset({"name": "image_folder", "root": str(root), **options})


def greys(data: DataSet, part: str) -> list[int]:
    split = getattr(data, part)
    assert split.x.dtype == torch.float32 and split.y.dtype == torch.int64
    return (split.x[:, 0, 0, 0] * 255).round().int().tolist()


def test_a_plain_folder_is_split_by_class_and_by_seed(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    data = read(tmp_path)
    assert data.classes == CLASSES and data.input_shape == (3, 6, 6) and data.name == "image_folder"
    assert [len(s) for s in (data.train, data.validation, data.test)] == [48, 6, 6]
    for part, each in (("train", 16), ("validation", 2), ("test", 2)):
        split = getattr(data, part)
        assert torch.bincount(split.y).tolist() == [each] * 3
        assert [g // 40 for g in greys(data, part)] == split.y.tolist()
    together = greys(data, "train") + greys(data, "validation") + greys(data, "test")
    assert sorted(together) == [40 * c + k for c in range(3) for k in range(20)]
    assert (
        greys(read(tmp_path), "test")
        == greys(data, "test")
        != greys(read(tmp_path, seed=1), "test")
    )
    # The shares are those of the classes also where they do not come out even.
    uneven = read(tmp_path, validation=10)
    assert len(uneven.validation) == 10 and min(torch.bincount(uneven.validation.y)) == 3
    assert torch.equal(uneven.test.x, data.test.x)
    assert len(read(tmp_path, validation=0.2).validation) == 12


def test_with_train_and_val_only_val_is_the_test_part(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 10)
    write_images(tmp_path / "val", 2, start=30)
    data = read(tmp_path, validation=6)
    assert sorted(greys(data, "test")) == [30, 31, 70, 71, 110, 111]
    assert [len(s) for s in (data.train, data.validation, data.test)] == [24, 6, 6]
    assert max(g % 40 for g in greys(data, "train") + greys(data, "validation")) < 10


@pytest.mark.parametrize("name", ["val", "validation"])
def test_three_folders_are_what_they_are_called(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / name, 2, start=20)
    write_images(tmp_path / "test", 1, start=30)
    data = read(tmp_path)
    assert sorted(greys(data, "validation")) == [20, 21, 60, 61, 100, 101] and greys(
        data, "test"
    ) == [30, 70, 110]
    assert len(data.train) == 12
    with pytest.raises(
        ValueError, match="validation: .* has a validation folder of its own, got 5 to hold out"
    ):
        read(tmp_path, validation=5)


def test_train_with_test_and_train_alone_hold_out_the_rest(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 10)
    # Images without labels, as some sets publish their test part.
    (tmp_path / "test").mkdir()
    Image.new("RGB", (6, 6)).save(tmp_path / "test" / "unknown.png")
    with pytest.warns(
        UserWarning, match="1 images without a class, in the test folder .test/unknown.png."
    ):
        alone = read(tmp_path)
    assert [len(s) for s in (alone.train, alone.validation, alone.test)] == [24, 3, 3]
    write_images(tmp_path / "test", 2, start=30)
    with pytest.warns(UserWarning, match="1 images outside the class folders .test/unknown.png."):
        data = read(tmp_path)
    assert sorted(greys(data, "test")) == [30, 31, 70, 71, 110, 111] and len(data.validation) == 3


def test_limit_takes_of_every_class_and_leaves_the_other_parts(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    whole, some = read(tmp_path), read(tmp_path, limit=7)
    assert torch.bincount(some.train.y).sort().values.tolist() == [2, 2, 3]
    assert torch.equal(some.test.x, whole.test.x) and torch.equal(
        some.validation.x, whole.validation.x
    )
    assert set(greys(some, "train")) <= set(greys(whole, "train"))
    assert len(read(tmp_path, limit=1000).train) == 48
    with pytest.raises(ValueError, match=r"no training image is left of .*raise limit \(1\)"):
        read(tmp_path, limit=1)


def test_pixels_of_pictures_without_a_size_are_exact_in_colour_and_grey(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = {name: random.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8) for name in ("a", "b")}
    for name, pictures in pixels.items():
        (tmp_path / name / "deeper").mkdir(parents=True)
        for k, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / name / "deeper" / f"{k}.PNG")
    data = read(tmp_path, validation=2)
    grey = read(tmp_path, validation=2, channels=1)
    assert data.input_shape == (3, 5, 7) and grey.input_shape == (1, 5, 7)
    seen = torch.cat([data.train.x, data.validation.x, data.test.x])
    for picture in np.concatenate([pixels["a"], pixels["b"]]):
        wanted = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        assert (seen == wanted).flatten(1).all(1).sum() == 1
    # Pillow's L is the luma of ITU-R 601, rounded.
    luma = (data.train.x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert (grey.train.x - luma).abs().max() <= 1 / 255


@pytest.mark.parametrize("size", [4, [6, 4], [4, 8]])
def test_a_size_scales_until_it_is_covered_and_cuts_around_the_centre(
    tmp_path: Path, size: Any
) -> None:
    import_torchvision()
    from torchvision.transforms import functional

    random = np.random.default_rng(0)
    height, width = (size, size) if isinstance(size, int) else size
    wanted = []
    for name, shape in (("a", (12, 24)), ("b", (24, 12))):
        (tmp_path / name).mkdir()
        for k in range(4):
            picture = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
            picture.save(tmp_path / name / f"{k}.png")
            factor = max(height / shape[0], width / shape[1])
            scaled = functional.resize(
                picture, [round(shape[0] * factor), round(shape[1] * factor)]
            )
            wanted.append(functional.to_tensor(functional.center_crop(scaled, [height, width])))
    data = read(tmp_path, size=size, validation=2)
    seen = torch.cat([split.x for split in (data.train, data.validation, data.test)])
    assert data.input_shape == (3, height, width)
    distance = torch.cdist(seen.flatten(1), torch.stack(wanted).flatten(1), p=torch.inf)
    assert (
        distance.argmin(1).sort().values.tolist() == list(range(8))
        and distance.min(1).values.max() < 2.5 / 255
    )


def test_images_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    Image.new("RGB", (9, 5)).save(tmp_path / "cat" / "large.png")
    six, five = r"\w+/\w+.png has 6x6 pixels", "cat/large.png has 5x9"
    with pytest.raises(
        ValueError, match=f"images of different sizes: {six}, {five}; give a `size`"
    ):
        read(tmp_path, validation=3, seed=2)
    assert read(tmp_path, validation=3, size=6).input_shape == (3, 6, 6)


def test_facts_are_read_without_the_images(tmp_path: Path) -> None:
    write_images(tmp_path, 2, size=(5, 7))
    for file in sorted(tmp_path.glob("*/*.png"))[1:]:
        file.write_bytes(b"nothing that could be read")
    assert measure_image_folder(tmp_path) == ((3, 5, 7), len(CLASSES))
    assert measure_image_folder(tmp_path, 9, channels=1, seed=3) == ((1, 9, 9), len(CLASSES))


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "ant" / "._000.png").write_bytes(b"written by a file manager")
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    with pytest.warns(
        UserWarning, match="left out: 1 files .txt, a format that is not read .ant/notes.txt.$"
    ):
        data = read(tmp_path, validation=3)
    assert data.classes == CLASSES and len(data.train) + len(data.validation) + len(data.test) == 12


def test_folders_that_are_no_data_set_say_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root must name the folder"):
        build_dataset("image_folder")
    with pytest.raises(DataUnavailable, match="there is no folder .*nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="two or more; it has none"):
        read(tmp_path)
    write_images(tmp_path, 3, classes=("ant",))
    with pytest.raises(ValueError, match="two or more; it has only 'ant'"):
        read(tmp_path)
    (tmp_path / "bee").mkdir()
    with pytest.raises(
        ValueError,
        match="Found no valid file for the classes bee. It must hold files ending in .jpg",
    ):
        read(tmp_path)


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3)
    write_images(tmp_path / "val", 2, classes=("ant", "bee", "dog"))
    with pytest.raises(
        ValueError, match="val and the training images must have the same class folders.*cat, dog"
    ):
        read(tmp_path)
    write_images(tmp_path / "validation", 2)
    with pytest.raises(ValueError, match="both a val and a validation folder"):
        read(tmp_path)


def test_damaged_and_unreadable_images_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    whole = (tmp_path / "bee/001.png").read_bytes()
    for content in (b"", b"no picture at all", whole[:-30]):
        (tmp_path / "bee/001.png").write_bytes(content)
        with pytest.raises(ValueError, match="bee/001.png cannot be read as an image"):
            read(tmp_path, validation=3)
    Image.fromarray(np.full((6, 6), 40000, dtype=np.uint16)).save(tmp_path / "bee/001.png")
    with pytest.raises(
        ValueError, match="bee/001.png cannot be read as an image: more than 8 bits a channel"
    ):
        read(tmp_path, validation=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be an integer >= 1, got 0"),
        ({"size": "big"}, "size must be an integer >= 1 or a list"),
        ({"size": [4, 2.5]}, r"size\[1\] must be an integer >= 1"),
        ({"size": 20000}, "GiB in memory, more than 8: give a smaller `size`"),
        ({"channels": 2}, "channels must be 1 .grey. or 3 .colour., got 2"),
        ({"channels": [3]}, "channels must be 1"),
        ({"validation": 0}, "validation must be an integer >= 1, got 0"),
        ({"validation": 1.5}, "validation must be a finite number > 0 and < 1, got 1.5"),
        ({"validation": 12}, "validation must leave images in both parts: 12 of 12"),
        ({"validation": 0.9}, "no training image is left of ant, bee, cat"),
        ({"seed": -1}, "seed must be an integer from 0 to"),
        ({"limit": 0}, "limit must be an integer >= 1, got 0"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_images(tmp_path, 4)
    with pytest.raises((TypeError, ValueError), match=message):
        read(tmp_path, **options)
