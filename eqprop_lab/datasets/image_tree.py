"""What lies in a folder of images: its parts, their classes, every file once.

What is left out is kept by name and count.

Hidden is what a file manager hides. Links are followed, each folder and file behind them is counted
once.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# torchvision's list: what Pillow reads everywhere, one picture a file.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found", "icon\r"}
_PART = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:[ _-]?(?:set|data|images|split))?")
_ROLES = {"train": "train", "val": "validation", "test": "test"}
_EXAMPLES = 3
_NOWHERE = "links that lead nowhere"
_AGAIN = "links to a folder that is read already"


@dataclass
class Report:
    """What a user should know of a folder.

    left: kind ("pipes") -> paths that are not used; notes: sentences.
    """

    root: Path
    left: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, *paths: Path) -> None:
        """Remember paths that are left out, by kind."""
        if paths:
            self.left.setdefault(kind, []).extend(place_in(path, self.root) for path in paths)

    def merge(self, other: Report) -> None:
        """Take over what another one holds."""
        for kind, paths in other.left.items():
            self.left.setdefault(kind, []).extend(paths)
        self.notes += other.notes

    def text(self) -> str:
        """One line, kinds with counts and a few examples; empty when there is nothing to say."""
        kinds = [f"{len(names)} {kind} ({examples(names)})" for kind, names in self.left.items()]
        return "; ".join(([f"left out: {', '.join(kinds)}"] if kinds else []) + self.notes)


def examples(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")


def place_in(path: Path, root: Path) -> str:
    """The path relative to `root` as a message can print it, also where it is no text."""
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return place.as_posix().encode("utf-8", "backslashreplace").decode()


def is_image(path: Path) -> bool:
    """Whether the name ends as an image that is read."""
    return path.suffix.lower() in EXTENSIONS


def _hidden(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.casefold() in _HIDDEN:
        return True
    facts = entry.stat(follow_symlinks=False)
    # The flags of Windows and of macOS; other systems have neither field.
    flagged = getattr(facts, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 0)
    return bool(flagged or getattr(facts, "st_flags", 0) & getattr(stat, "UF_HIDDEN", 0))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is visible in a folder, by name. Raises ValueError for a folder that may not be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not _hidden(entry)), key=lambda entry: entry.name
            )
    except OSError as error:
        raise ValueError(
            f"the folder {folder} cannot be read: {error.strerror or error}"
        ) from error


def _mode(entry: os.DirEntry[str]) -> int | None:
    """The type of what an entry leads to; None for a link that leads nowhere or in a circle."""
    try:
        return entry.stat().st_mode
    except OSError:
        return None


def _holds(real: str, place: str) -> bool:
    return place == real or place.startswith(real.rstrip(os.sep) + os.sep)


def visible_folders(place: Path, report: Report) -> list[Path]:
    """The visible folders in `place`, by name.

    Links back to `place`, or to what holds it, go to `report`.
    """
    found = []
    for entry in _entries(place):
        path = Path(entry.path)
        mode = _mode(entry)
        if mode is None:
            report.add(_NOWHERE, path)
        elif stat.S_ISDIR(mode) and _holds(os.path.realpath(path), os.path.realpath(place)):
            report.add(_AGAIN, path)
        elif stat.S_ISDIR(mode):
            found.append(path)
        elif stat.S_ISREG(mode) and is_image(path):
            report.add("images outside the class folders", path)
    return found


def find_files(place: Path, report: Report) -> list[tuple[Path, str]]:
    """(file, real path) of every image under `place`, by folder and name.

    What is left out goes to `report`.

    Folders of `place` itself come before links to others, so that a file keeps the name it has
    here.
    """
    found: dict[str, Path] = {}
    start = os.path.realpath(place)
    read: set[str] = set()
    folders = [(place, start)]
    links: list[tuple[Path, str]] = []
    while folders or links:
        folder, real = folders.pop() if folders else links.pop(0)
        if real in read or (real != start and _holds(real, start)):
            report.add(_AGAIN, folder)
            continue
        read.add(real)
        for entry in _entries(folder):
            path = Path(entry.path)
            mode = _mode(entry)
            behind = (
                os.path.realpath(path) if entry.is_symlink() else os.path.join(real, entry.name)
            )
            if mode is not None and stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append((path, behind))
            elif why := _unread(path, mode, behind in found):
                report.add(why, path)
            else:
                found[behind] = path
    pairs = [(path, real) for real, path in found.items()]
    return sorted(pairs, key=lambda pair: (str(pair[0].parent), pair[0].name))


def _unread(path: Path, mode: int | None, again: bool) -> str:
    if mode is None:
        return _NOWHERE
    if not stat.S_ISREG(mode):
        return "pipes, sockets or devices"
    if not is_image(path):
        return f"files {path.suffix.lower() or 'without an ending'}, a format that is not read"
    return "links to an image that is read already" if again else ""


def looks(name: str) -> str:
    """How a person reads a name: composed letters, no outer blanks, no case."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def class_folders(place: Path, report: Report) -> dict[str, Path]:
    """Class -> its folder, sorted by class.

    A class is the folder's name with composed letters (NFC).

    Raises ValueError for two folders whose names look the same, and for names that are no text.
    """
    found: dict[str, Path] = {}
    seen: dict[str, Path] = {}
    for folder in visible_folders(place, report):
        same = seen.setdefault(looks(folder.name), folder)
        if same != folder:
            names = f"{ascii(same.name)} and {ascii(folder.name)}"
            raise ValueError(
                f"{place} has two class folders that look the same: {names}; rename or merge them"
            )
        if place_in(folder, place) != folder.name:
            raise ValueError(
                f"{place}: the name of the class folder {place_in(folder, place)} is no text; "
                "rename it"
            )
        found[unicodedata.normalize("NFC", folder.name)] = folder
    return dict(sorted(found.items()))


def part_folders(root: Path, report: Report) -> dict[str, Path]:
    """role -> folder of the parts in `root` ("train", "validation", "test"), in any case.

    {} where there is none.

    Raises ValueError where a name could be a part or a class, or two folders have one role.
    """
    here = Report(root)
    folders = visible_folders(root, here)
    parts: dict[str, Path] = {}
    for folder in folders:
        match = _PART.fullmatch(looks(folder.name))
        role = _ROLES[match[1]] if match else ""
        if role in parts:
            both = f"a {parts[role].name} and a {folder.name}"
            raise ValueError(f"{root} has both {both} folder: which one counts is not clear")
        if role:
            parts[role] = folder
    others = [folder for folder in folders if folder not in parts.values()]
    if not parts:
        return {}
    names = examples([folder.name for folder in parts.values()])
    if "train" not in parts:
        raise ValueError(
            f"{root} has {names}, but no train folder: name the part to train on train, or, "
            "if these are classes, rename them"
        )
    full = [folder for folder in others if find_files(folder, Report(root))]
    if full:
        beside = examples([folder.name for folder in full])
        raise ValueError(
            f"{root} has {names} beside {beside}, and all hold images: are these parts or classes? "
            "Rename or move some"
        )
    report.merge(here)
    report.add("folders beside the parts", *others)
    return parts


def same_inside(classes: dict[str, Path]) -> str:
    """A sentence where what is taken for classes looks like parts, or an empty text.

    It does where they hold no images but the same folders.
    """
    inside = [
        {folder.name for folder in visible_folders(place, Report(place))}
        for place in classes.values()
    ]
    direct = Report(Path())
    for place in classes.values():
        visible_folders(place, direct)
    shared = sorted(set.intersection(*inside)) if inside else []
    if len(shared) < 2 or direct.left:
        return ""
    return (
        f"{examples(list(classes))} are read as classes, and each holds the folders "
        f"{examples(shared)}: if they are parts, call them train, val and test"
    )
