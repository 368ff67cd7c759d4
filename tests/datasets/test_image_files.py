"""A picture is what a viewer shows: turned, on its ground, one frame, all its bits; or its file is
refused by name.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from eqprop_lab import build_dataset
from eqprop_lab.datasets.image_files import read_image
from eqprop_lab.datasets.image_folder import measure_image_folder
from tests.datasets.test_image_folder import write_images

SIDE = 8
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def drawing(ink: tuple[int, int, int], below: tuple[int, int, int]) -> Image.Image:
    """A filled square of ink; around it transparent pixels that hide the colour `below`."""
    image = Image.new("RGBA", (SIDE, SIDE), (*below, 0))
    ImageDraw.Draw(image).rectangle((2, 2, 5, 5), fill=(*ink, 255))
    return image


def palette(image: Image.Image) -> Image.Image:
    """The drawing with a palette in which entry 0, whatever its colour, is transparent."""
    result = Image.new("P", image.size, 0)
    result.putpalette([*image.getpixel((0, 0))[:3], *image.getpixel((3, 3))[:3]])
    result.paste(1, (2, 2, 6, 6))
    result.info["transparency"] = 0
    return result


def key_colour(image: Image.Image) -> Image.Image:
    """The drawing without alpha: one colour of it is declared transparent."""
    result = image.convert("RGB")
    result.info["transparency"] = image.getpixel((0, 0))[:3]
    return result


def stored(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    image.save(path, **options)
    return path


def shown(path: Path, mode: str = "RGB", **options: Any) -> np.ndarray:
    return np.asarray(read_image(path, path.parent, mode, **options))


@pytest.mark.parametrize("ground", ["white", "black"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("form", "ending"),
    [
        (lambda image: image, "png"), (lambda image: image, "webp"), (lambda image: image, "tif"),
        (lambda image: image.convert("LA"), "png"), (palette, "png"), (key_colour, "png"),
    ],
    ids=["rgba", "webp", "tif", "la", "palette", "key"],
)  # fmt: skip
def test_transparent_pixels_show_the_ground_and_never_what_they_hide(
    tmp_path: Path, form: Callable[[Image.Image], Image.Image], ending: str, mode: str, ground: str
) -> None:
    ink, behind = (BLACK, 255) if ground == "white" else (WHITE, 0)
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    path = stored(form(drawing(ink, below=(90, 90, 90))), tmp_path / f"x.{ending}", **options)
    seen = shown(path, mode, ground=ground)
    assert (seen[:2] == behind).all() and (seen[2:6, 2:6] == ink[0]).all()
    with pytest.raises(
        ValueError, match="x.* a drawing in the colour of the ground, which is .*: give the other"
    ):
        read_image(path, tmp_path, mode, "black" if ground == "white" else "white")


def test_half_transparent_pixels_are_mixed_and_an_empty_picture_is_its_ground(
    tmp_path: Path,
) -> None:
    half = stored(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), tmp_path / "half.png")
    assert np.abs(shown(half).astype(int) - 127).max() <= 1
    empty = stored(Image.new("RGBA", (2, 2), (9, 9, 9, 0)), tmp_path / "empty.png")
    assert (shown(empty) == 255).all() and (shown(empty, ground="black") == 0).all()


def test_black_drawings_are_no_longer_all_zero_in_a_data_set(tmp_path: Path) -> None:
    for name, ink in (("a", (0, 0, 0)), ("b", (0, 0, 60))):
        for k in range(5):
            image = drawing(ink, below=BLACK)
            image.putpixel((3, 3), (k, 0, 0, 255))
            stored(image, tmp_path / name / f"{k}.png")
    data = build_dataset({"name": "image_folder", "root": str(tmp_path), "validation": 2})
    assert data.train.x.flatten(1).std(1).min() > 0.1 and bool(
        (data.train.x[:, :, 0, 0] == 1).all()
    )
    with pytest.raises(
        ValueError, match="a/.* a drawing in the colour of the ground, which is black"
    ):
        options = {"root": str(tmp_path / "half"), "validation": 2, "ground": "black"}
        for name in ("a", "b"):
            for k in range(5):
                stored(drawing(BLACK, below=WHITE), tmp_path / "half" / name / f"{k}.png")
        build_dataset({"name": "image_folder", **options})
    with pytest.raises(
        ValueError, match="ground must be one of 'white', 'black', got 'whit'; did you mean 'white'"
    ):
        build_dataset({"name": "image_folder", "root": str(tmp_path), "ground": "whit"})


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    # Four corners of their own grey; what a viewer shows for each value is the standard's table.
    corners = {
        1: "abcd",
        2: "badc",
        3: "dcba",
        4: "cdab",
        5: "acbd",
        6: "cadb",
        7: "dbca",
        8: "bdac",
    }[orientation]
    level = dict(zip("abcd", (20, 90, 160, 230), strict=True))
    image = Image.new("L", (32, 16))
    for k, key in enumerate("abcd"):
        image.paste(level[key], (16 * (k % 2), 8 * (k // 2), 16 * (k % 2) + 16, 8 * (k // 2) + 8))
    exif = Image.Exif()
    exif[274] = orientation
    path = stored(image.convert("RGB"), tmp_path / f"x.{ending}", exif=exif)
    seen = shown(path, "L")
    height, width = seen.shape
    assert (height, width) == ((16, 32) if orientation < 5 else (32, 16))
    found = [seen[y, x] for y in (3, height - 4) for x in (3, width - 4)]
    assert np.abs(np.array(found, dtype=int) - [level[key] for key in corners]).max() < 12
    assert image_size_of(tmp_path, path) == (height, width)


def image_size_of(tmp_path: Path, path: Path) -> tuple[int, int]:
    root = tmp_path / "set"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / path.name).write_bytes(path.read_bytes())
    (_, height, width), _ = measure_image_folder(root)
    return height, width


def animation(path: Path) -> None:
    frames = [Image.new("RGB", (6, 6), (grey,) * 3) for grey in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def gif_in_disguise(path: Path) -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (6, 6), (k, 0, 90)) for k in (10, 100, 200)]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    path.write_bytes(buffer.getvalue())


def bomb(path: Path) -> None:
    Image.new("1", (12000, 12000)).save(path)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.full((6, 6), 40000, dtype=np.uint16)).save(path)


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\nshowpage\n")


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("x.png", animation, "2 pictures in one file"),
    ("x.webp", animation, "2 pictures in one file"),
    ("x.tiff", animation, "2 pictures in one file"),
    ("x.png", gif_in_disguise, "3 pictures in one file"),
    ("x.png", bomb, "12000x12000 pixels, and Pillow's limit|decompression bomb"),
    ("x.tif", sixteen_bits, "more than 8 bits a channel"),
    ("x.png", sixteen_bits, "more than 8 bits a channel"),
    ("x.png", postscript, "cannot identify"),
    ("x.jpg", lambda path: path.write_bytes(b""), "cannot identify"),
]


@pytest.mark.parametrize(("name", "make", "reason"), REFUSED)
def test_a_file_that_is_no_single_picture_is_refused_by_name(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read as an image: .*({reason})"):
        read_image(tmp_path / name, tmp_path, "RGB")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, ending: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = stored(Image.fromarray(noise), tmp_path / f"x.{ending}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=f"x.{ending} cannot be read as an image"):
        read_image(path, tmp_path, "RGB")


@pytest.mark.parametrize(
    ("mode", "ending", "value", "wanted"),
    [
        ("1", "png", 1, (255, 255, 255)), ("1", "tif", 0, (0, 0, 0)),
        ("L", "png", 77, (77, 77, 77)),
        ("CMYK", "jpg", (0, 0, 0, 255), (0, 0, 0)), ("CMYK", "jpg", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", "tif", (255, 0, 0, 0), (0, 255, 255)), ("P", "png", 0, (200, 10, 30)),
    ],
)  # fmt: skip
def test_bilevel_grey_print_and_palette_pictures_have_their_colours(
    tmp_path: Path, mode: str, ending: str, value: Any, wanted: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (16, 16), value)
    if mode == "P":
        image.putpalette([200, 10, 30])
    seen = shown(stored(image, tmp_path / f"x.{ending}"))
    assert np.abs(seen.astype(int) - wanted).max() <= 3


def test_a_photograph_with_a_preview_behind_it_is_read(tmp_path: Path) -> None:
    first, preview = Image.new("RGB", (16, 16), (200,) * 3), Image.new("RGB", (4, 4))
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[preview])
    assert (
        shown(tmp_path / "x.jpg").shape == (16, 16, 3)
        and abs(int(shown(tmp_path / "x.jpg").mean()) - 200) <= 1
    )


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 4)
    opened = Image.open

    def locked(file: Path, **options: Any) -> Image.Image:
        if Path(file).match("bee/002.png"):
            raise PermissionError(13, "Permission denied")
        return opened(file, **options)

    monkeypatch.setattr(Image, "open", locked)
    with pytest.raises(
        ValueError, match="bee/002.png cannot be read as an image: .*Permission denied"
    ):
        build_dataset({"name": "image_folder", "root": str(tmp_path), "validation": 3})
