from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from filelock import FileLock
from matplotlib.figure import Figure
from PIL import Image

from eqprop_lab.notebook import figures, new_figure, setup, show
from eqprop_lab.notebook.figures import FIGURES_DIR, NOTEBOOK, require_alt
from eqprop_lab.notebook.style import MAX_PNG_BYTES

Outputs = list[tuple[dict[str, Any], dict[str, Any]]]
ALT = "One line that rises from zero to one."


def _figure() -> Figure:
    figure = new_figure(4, 2)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def _page_picture(data: dict[str, Any]) -> bytes:
    """The PNG in the HTML of a bundle."""
    return base64.b64decode(data["text/html"].partition("base64,")[2].partition('"')[0])


def test_the_picture_has_its_alt_text_and_twice_the_pixels(shown: Outputs) -> None:
    show(_figure(), "nb01_line", ALT, "A *line* with $x^2$.")
    (data, metadata), (text, _) = shown
    page = _page_picture(data)
    assert metadata["image/png"] == {"alt": ALT, "width": 400} and Image.open(
        io.BytesIO(page)
    ).size == (800, 400)
    # The stand-in for pages that show no HTML.
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (320, 160)
    assert data["text/plain"] == ALT and list(data)[0] == "text/html"
    assert (
        f'alt="{ALT}" src="data:image/png;base64,' in data["text/html"]
        and 'width="400"' in data["text/html"]
    )
    assert text["text/markdown"].startswith("**Figure.** A *line* with $x^2$.\n")
    assert ALT in text["text/markdown"]


def test_a_crowded_picture_stays_small(shown: Outputs) -> None:
    figure = new_figure(4, 3)
    figure.subplots().imshow(np.random.default_rng(0).normal(size=(200, 300)))
    show(figure, "nb01_noise", "Dots of many colours without any order.", "Noise.")
    assert (
        len(base64.b64decode(shown[0][0]["image/png"]))
        < len(_page_picture(shown[0][0]))
        <= MAX_PNG_BYTES
    )


def test_a_pyplot_figure_is_closed(shown: Outputs) -> None:
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    show(figure, "nb01_line", ALT, "A line.")
    assert plt.get_fignums() == [] and len(shown) == 2


@pytest.mark.parametrize(
    "name", ["line", "nb1_line", "nb01_Line", "nb01_", "nb01_a b", "../nb01_line", "nb01_line\n"]
)
def test_bad_names_are_refused(name: str, shown: Outputs) -> None:
    with pytest.raises(ValueError, match="a figure is called nbNN_slug"):
        show(_figure(), name, ALT, "A line.")
    assert shown == []


@pytest.mark.parametrize(
    "alt",
    [
        "",
        "too short",
        "A plot of accuracy over epochs, rising.",
        "Figure with a line that rises to one.",
    ],
)
def test_bad_alt_texts_are_refused(alt: str, shown: Outputs) -> None:
    with pytest.raises(ValueError, match="alt = "):
        show(_figure(), "nb01_line", alt, "A line.")
    assert shown == []


def test_a_word_that_only_starts_like_plot_is_accepted() -> None:
    assert require_alt("Plotted points fall on\n one line.") == "Plotted points fall on one line."


def test_other_bad_arguments_are_refused(shown: Outputs) -> None:
    with pytest.raises(ValueError, match="caption = ' '"):
        show(_figure(), "nb01_line", ALT, " ")
    with pytest.raises(TypeError, match="fig is a str"):
        show("figure", "nb01_line", ALT, "A line.")  # type: ignore[arg-type]
    assert shown == []


def test_files_and_index_are_written_when_asked_for(
    tmp_path: Path, shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "figures"
    monkeypatch.setenv(FIGURES_DIR, str(folder))
    monkeypatch.setenv(NOTEBOOK, "01_energy_dynamics")
    setup(5, "smoke")
    show(_figure(), "nb01_line", ALT, "A line.")
    show(_figure(), "nb01_other", ALT, "A line.", parameters={"beta": 0.3})
    index = json.loads((folder / "index.json").read_text())
    assert list(index) == ["nb01_line", "nb01_other"]
    entry = index["nb01_line"]
    assert (entry["alt"], entry["caption"], entry["notebook"]) == (
        ALT,
        "A line.",
        "01_energy_dynamics",
    )
    assert entry["parameters"] == {"seed": 5, "profile": "smoke"} and index["nb01_other"][
        "parameters"
    ] == {"beta": 0.3}
    for kind in ("png", "svg"):
        assert (
            entry["sha256"][kind]
            == hashlib.sha256((folder / f"nb01_line.{kind}").read_bytes()).hexdigest()
        )
    assert (folder / "nb01_line.png").read_bytes() == _page_picture(shown[0][0])
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_the_same_figure_gives_the_same_svg(
    tmp_path: Path, shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    svgs = []
    for run in "ab":
        monkeypatch.setenv(FIGURES_DIR, str(tmp_path / run))
        show(_figure(), "nb01_line", ALT, "A line.")
        svgs.append((tmp_path / run / "nb01_line.svg").read_text())
    assert svgs[0] == svgs[1] and ALT in svgs[0] and "<dc:date>" not in svgs[0]


def test_parameters_that_are_no_json_are_refused_before_a_file_is_written(
    tmp_path: Path, shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FIGURES_DIR, str(tmp_path))
    with pytest.raises(TypeError, match="parameters = .* only numbers, texts, lists and dicts"):
        show(_figure(), "nb01_line", ALT, "A line.", parameters={"model": object()})
    assert list(tmp_path.iterdir()) == [] and shown == []


def test_a_full_disk_is_named_and_leaves_no_half_file(
    tmp_path: Path, shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setenv(FIGURES_DIR, str(tmp_path))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"figure nb01_line: .* \(No space left on device\)"
    ) as caught:
        show(_figure(), "nb01_line", ALT, "A line.")
    assert str(tmp_path) not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")] == []


def test_a_broken_index_is_named(
    tmp_path: Path, shown: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.json").write_text("{")
    monkeypatch.setenv(FIGURES_DIR, str(tmp_path))
    with pytest.raises(ValueError, match=r"index.json of the figures folder is not valid JSON"):
        show(_figure(), "nb01_line", ALT, "A line.")


def test_two_writers_share_one_index(tmp_path: Path) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 20):
            figures._write(tmp_path, f"nb01_line{number}", b"png", b"svg", {"alt": ALT})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (10, 30)))
    assert sorted(json.loads((tmp_path / "index.json").read_text())) == [
        f"nb01_line{n}" for n in range(10, 50)
    ]


def test_an_index_that_stays_locked_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_LOCK_SECONDS", 0.05)
    with (
        FileLock(tmp_path / "index.json.lock"),
        pytest.raises(OSError, match="stayed locked for 0.05 s"),
    ):
        figures._write(tmp_path, "nb01_line", b"png", b"svg", {"alt": ALT})
    assert not (tmp_path / "nb01_line.png").exists()
