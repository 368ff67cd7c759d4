"""Folders as their users see them: what is hidden, linked, no file, no part or no class is left out
or refused.
"""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eqprop_lab import build_dataset
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.image_folder import measure_image_folder
from eqprop_lab.datasets.image_tree import EXTENSIONS
from eqprop_lab.datasets.torchvision_sets import import_torchvision
from tests.datasets.test_image_folder import CLASSES, greys, write_images

Change = Callable[[Path], object]


def read(root: Path, **options: Any) -> DataSet:
    return build_dataset({"name": "image_folder", "root": str(root), "validation": 3, **options})


def images(data: DataSet) -> list[int]:
    return sorted(greys(data, "train") + greys(data, "validation") + greys(data, "test"))


def picture(path: Path, grey: int = 250) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), (grey,) * 3).save(path, format="PNG")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_the_formats_are_torchvisions() -> None:
    import_torchvision()
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert EXTENSIONS == IMG_EXTENSIONS


@pytest.mark.parametrize(
    "hidden",
    [
        "ant/.ipynb_checkpoints/000-checkpoint.png", "ant/deep/.thumbnails/large/x.png",
        "ant/._000.png",
        "bee/__MACOSX/ant/000.png", "__MACOSX/ant/000.png", ".git/a/b.png",
        "cat/@eaDir/000.png/SYNO.png",
        "cat/$RECYCLE.BIN/x.png", "bee/Thumbs.db", "desktop.ini", "ant/.DS_Store",
    ],
)  # fmt: skip
def test_what_a_file_manager_hides_is_no_image_and_no_class_at_any_depth(
    tmp_path: Path, hidden: str
) -> None:
    write_images(tmp_path, 4)
    before = images(read(tmp_path))
    picture(tmp_path / hidden)
    data = read(tmp_path)
    assert images(data) == before and data.classes == CLASSES


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("ant/up", ".."), ("ant/here", "."), ("ant/deep/round", "../../ant"), ("all", "."),
        ("ant/above", "../.."),
        ("train", "."),
    ],
)  # fmt: skip
def test_a_link_back_adds_no_image_and_is_reported(tmp_path: Path, link: str, target: str) -> None:
    write_images(tmp_path / "set", 4)
    before = images(read(tmp_path / "set"))
    (tmp_path / "set" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "set" / link).symlink_to(target, target_is_directory=True)
    with pytest.warns(UserWarning, match=f"1 links to a folder that is read already .{link}."):
        data = read(tmp_path / "set")
    assert images(data) == before and data.classes == CLASSES


def test_two_links_round_in_a_circle_and_two_that_lead_nowhere_are_reported(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    (tmp_path / "ant" / "a.png").symlink_to("b.png")
    (tmp_path / "ant" / "b.png").symlink_to("a.png")
    (tmp_path / "ant" / "lost.png").symlink_to("/nowhere/x.png")
    (tmp_path / "lost").symlink_to("/nowhere", target_is_directory=True)
    with pytest.warns(
        UserWarning, match="4 links that lead nowhere .lost, ant/a.png, ant/b.png, ...."
    ):
        assert len(images(read(tmp_path))) == 12


def test_links_to_a_store_elsewhere_are_followed_and_a_file_counts_once(tmp_path: Path) -> None:
    write_images(tmp_path / "store", 4)
    root = tmp_path / "set"
    (root / "ant").mkdir(parents=True)
    (root / "ant" / "many").symlink_to(tmp_path / "store" / "ant", target_is_directory=True)
    (root / "bee").symlink_to(tmp_path / "store" / "bee", target_is_directory=True)
    (root / "cat").mkdir()
    for file in sorted((tmp_path / "store" / "cat").iterdir()):
        (root / "cat" / file.name).symlink_to(file)
    assert images(read(root)) == images(read(tmp_path / "store"))
    (root / "ant" / "again.png").symlink_to(tmp_path / "store" / "ant" / "000.png")
    (root / "cat" / "also").symlink_to(tmp_path / "store" / "cat", target_is_directory=True)
    with pytest.warns(UserWarning, match="5 links to an image that is read already"):
        assert images(read(root)) == images(read(tmp_path / "store"))


@pytest.mark.parametrize(
    ("link", "target", "what"),
    [
        ("train/cow", "cat", "classes"), ("train/bee/more", "../cat", "classes"),
        ("val", "train", "parts"),
        ("test/ant/t.png", "../../train/ant/000.png", "parts"),
        ("test/ant/more", "../../train/ant", "parts"),
    ],
)  # fmt: skip
def test_one_file_in_two_classes_or_parts_is_refused(
    tmp_path: Path, link: str, target: str, what: str
) -> None:
    write_images(tmp_path / "train", 4)
    if link.startswith("test"):
        write_images(tmp_path / "test", 2, start=20)
    (tmp_path / link).symlink_to(target, target_is_directory=not link.endswith("png"))
    with pytest.raises(
        ValueError, match=f"train/.* and .* are one file, by a link, in two {what}: remove one"
    ):
        build_dataset({"name": "image_folder", "root": str(tmp_path)})


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, bind, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "socket", "device"],
)
def test_what_is_no_file_is_not_opened(
    tmp_path: Path, make: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 4)
    # The name of a socket may have a hundred bytes: it is bound from inside its folder.
    monkeypatch.chdir(tmp_path / "ant")
    make(Path("wait.png"))
    with pytest.warns(UserWarning, match="1 pipes, sockets or devices .ant/wait.png."):
        assert len(images(read(tmp_path))) == 12


def test_formats_that_are_not_read_are_counted_by_name(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    for name in (
        "ant/a.heic",
        "ant/b.HEIC",
        "bee/c.svg",
        "cat/notes.txt",
        "cat/noending",
        "bee/d.gif",
        "cat/e.avif",
    ):
        (tmp_path / name).write_bytes(b"something")
    picture(tmp_path / "stray.png")
    (tmp_path / "README.md").write_text("what this is")
    with pytest.warns(UserWarning) as caught:
        assert len(images(read(tmp_path))) == 12
    assert len(caught) == 1
    said = str(caught[0].message)
    for part in (
        "2 files .heic, a format that is not read (ant/a.heic, ant/b.HEIC)",
        "1 files .svg, a format", "1 files .txt, a format", "1 files without an ending",
        "1 files .gif, a",
        "1 files .avif, a",
        "1 images outside the class folders (stray.png)",
    ):  # fmt: skip
        assert part in said
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.heic").write_bytes(b"something")
    with pytest.raises(
        ValueError, match="no valid file for the classes dog.*It has left out: 1 files .heic"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training", "valid", "testing"), ("Train", "Val", "TEST"), ("TRAIN", "Validation", "Test"),
        ("train_set", "validation set", "test-images"), ("training_data", "val", "test"),
    ],
)  # fmt: skip
def test_parts_are_found_by_their_usual_names_in_any_case(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    write_images(tmp_path / train, 4)
    write_images(tmp_path / validation, 2, start=20)
    write_images(tmp_path / test, 1, start=30)
    data = build_dataset({"name": "image_folder", "root": str(tmp_path)})
    assert data.classes == CLASSES and len(data.train) == 12
    assert sorted(greys(data, "validation")) == [20, 21, 60, 61, 100, 101] and greys(
        data, "test"
    ) == [30, 70, 110]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "Training", "val"), "both a Training and a train folder: which one counts"),
        (("train", "val", "VALID"), "both a VALID and a val folder: which one counts"),
        (("val", "test"), "has test, val, but no train folder"),
        (("Test", "ant", "bee"), "has Test, but no train folder"),
        (
            ("valid", "invalid"),
            "has valid, but no train folder: .* if these are classes, rename them",
        ),
        (
            ("train", "bus", "car"),
            "has train beside bus, car, and all hold images: are these parts or classes",
        ),
        (("train", "test", "unlabelled"), "has test, train beside unlabelled, and all hold images"),
    ],
)
def test_names_that_could_be_parts_or_classes_are_refused(
    tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    for start, name in enumerate(folders):
        write_images(tmp_path / name, 4, start=5 * start)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)
    with pytest.raises(ValueError, match=message):
        measure_image_folder(tmp_path)


def test_a_class_called_train_with_folders_in_it_does_not_swallow_the_others(
    tmp_path: Path,
) -> None:
    write_images(tmp_path / "train", 4, classes=("steam", "electric"))
    write_images(tmp_path, 4, classes=("bus", "car"), start=20)
    with pytest.raises(ValueError, match="has train beside bus, car, and all hold images"):
        read(tmp_path)


def test_folders_without_images_beside_the_parts_are_reported(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.csv").write_text("1,2")
    with pytest.warns(UserWarning, match="left out: 1 folders beside the parts .annotations."):
        assert len(images(read(tmp_path))) == 12


def test_parts_under_names_of_their_own_are_pointed_out(tmp_path: Path) -> None:
    write_images(tmp_path / "fold1", 4)
    write_images(tmp_path / "fold2", 4, start=20)
    with pytest.warns(
        UserWarning,
        match="fold1, fold2 are read as classes, and each holds the folders ant, bee, cat",
    ):
        assert read(tmp_path).classes == ("fold1", "fold2")


@pytest.mark.parametrize(
    ("first", "second"), [("Cat", "cat"), ("cat", "cat "), ("caf\u00e9", "cafe\u0301")]
)
def test_class_folders_that_look_the_same_are_refused(
    tmp_path: Path, first: str, second: str
) -> None:
    write_images(tmp_path, 4, classes=(first, second))
    with pytest.raises(
        ValueError, match="two class folders that look the same: .*; rename or merge them"
    ):
        read(tmp_path)


def test_composed_and_decomposed_letters_are_one_class_across_the_parts(tmp_path: Path) -> None:
    name = "caf\u00e9"
    write_images(tmp_path / "train", 4, classes=("bar", name))
    write_images(
        tmp_path / "test", 2, classes=("bar", unicodedata.normalize("NFD", name)), start=20
    )
    data = read(tmp_path)
    assert data.classes == ("bar", name) and sorted(greys(data, "test")) == [20, 21, 60, 61]


def test_classes_that_differ_in_case_across_the_parts_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4, classes=("ant", "Bee"))
    write_images(tmp_path / "test", 2, classes=("ant", "bee"), start=20)
    with pytest.raises(
        ValueError, match="test and the training images must have the same class .* Bee, bee"
    ):
        read(tmp_path)


@pytest.mark.parametrize("place", ["", "ant", "ant/deep"])
def test_a_folder_that_may_not_be_read_is_named_not_skipped(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 4)
    picture(tmp_path / "ant" / "deep" / "x.png")
    scandir = os.scandir

    def locked(folder: Path) -> Any:
        if Path(folder) == tmp_path / place:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(ValueError, match=f"the folder .*{place} cannot be read: Permission denied"):
        read(tmp_path)


def test_a_name_that_is_no_text_is_refused_as_a_class_and_shown_as_a_file(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    (tmp_path / "ant" / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"ant/\\udcff.png cannot be read as an image"):
        read(tmp_path)
    write_images(tmp_path, 1, classes=(os.fsdecode(b"\xfe"),))
    with pytest.raises(ValueError, match=r"the name of the class folder \\udcfe is no text"):
        read(tmp_path)


def test_equal_pictures_across_parts_and_classes_are_reported(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / "test", 2, start=20)
    Image.open(tmp_path / "train/ant/001.png").save(tmp_path / "test/ant/copy.bmp")
    with pytest.warns(
        UserWarning, match=r"1 pictures are in more than one part, .*train/ant/001.png"
    ) as said:
        read(tmp_path)
    assert "more than one class" not in str(said[0].message)
    Image.open(tmp_path / "test/bee/020.png").save(tmp_path / "test/cat/copy.png")
    with pytest.warns(
        UserWarning,
        match=r"1 pictures are in more than one class .test/bee/020.png .test. = test/cat",
    ):
        read(tmp_path)


def test_copies_within_a_folder_that_is_split_by_chance_are_seen(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    for k in range(20):
        picture(tmp_path / "ant" / f"same{k}.png", grey=200)
    with pytest.warns(UserWarning, match="1 pictures are in more than one part"):
        read(tmp_path)
