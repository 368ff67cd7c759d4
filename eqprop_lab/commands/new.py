"""`python -m eqprop_lab new KIND NAME`: a small, typed, tested file of your own to begin with.

    new model my_model          my_model.py, which registers the name, and test_my_model.py
    new notebook my_idea        50_my_idea.ipynb, from 50 on the first number that is free

The files go to the current folder, or --folder; a file that is there already is never touched.
They stand alone: they import eqprop_lab and register themselves, in a checkout and anywhere else.
An experiment file finds the name if its module is imported first:

    python -m eqprop_lab --import my_model train my_experiment.yaml
"""

from __future__ import annotations

import builtins
import io
import keyword
import os
import re
import tokenize
from collections.abc import Callable, Collection, Sequence
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.files import check_target, nearest, replace_text
from eqprop_lab.validation import a_path, shown

FIRST, LAST = 50, 99
LONGEST = 24
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
TWO_BLOCKS = re.compile(
    r"^((?:(?:import|from) (?!__future__).*\n)+)\n((?:from eqprop_lab.*\n)+)", re.MULTILINE
)
PLACEHOLDER, CLASS, TITLE, NUMBER = "own_name", "OwnName", "Own name", "50"


class Kind(NamedTuple):
    """What can be begun: the table that must not have the name yet, and how the name is used."""

    table: str
    python: str
    yaml: str = ""


KINDS = {
    "model": Kind(
        "models.registry:model_registry",
        'model_registry.create("own_name", input_dim=64, hidden_dim=32, output_dim=10)',
        "model: {name: own_name, params: {hidden_dim: 32}}",
    ),
    "rule": Kind(
        "algorithms.bioplausible:ALGORITHMS",
        'BioplausibleModel("own_name", 64, [32], 10)',
        "model: {name: BioplausibleModel, params: {algorithm: own_name, hidden_dims: [32]}}",
    ),
    "estimator": Kind(
        "equilibrium.gradients:ESTIMATORS",
        'estimate_gradients(model, x, y, "own_name")',
        "training: {gradient: own_name}",
    ),
    "dataset": Kind(
        "datasets:NAMES",
        'build_dataset("own_name")',
        "data: {dataset: own_name}",
    ),
    "explorer": Kind("", "own_name.OwnName(), the last line of a notebook's cell"),
    "notebook": Kind("", ""),
}


def main(argv: Sequence[str]) -> int:
    """0 when the files are written, 2 for a wrong call or files that are there already."""
    parser = make_parser("new", __doc__)
    parser.add_argument("kind", choices=KINDS, help=", ".join(KINDS), metavar="KIND")
    parser.add_argument("name", metavar="NAME", help="a Python name in lower case, like my_model")
    parser.add_argument("--folder", default=".", help="where the files go (the current folder)")
    options = parser.parse_args(argv)
    try:
        folder = a_path("--folder", options.folder)
        texts = begin(options.kind, options.name, folder)
        write(texts)
    except (OSError, TypeError, ValueError) as error:
        return refuse(error)
    print("\n".join([f"written: {', '.join(map(str, texts))}", *told(options.kind, texts)]))
    return 0


def begin(kind: str, name: str, folder: Path) -> dict[Path, str]:
    """{file: text} of a starting point, nothing of it written.

    Raises: ValueError for a name that cannot be used, FileExistsError.
    """
    check_name(name, kind)
    if kind == "notebook":
        path = notebook_path(name, folder)
        return {path: filled(template("notebook.ipynb.txt"), name, path.name[:2])}
    parts = {f"{name}.py": f"{kind}.py.txt", f"test_{name}.py": f"test_{kind}.py.txt"}
    for target in parts:
        if os.path.lexists(folder / target):
            raise FileExistsError(f"{folder / target} is there already, and is left as it is")
    check_free(name, kind)
    texts = {file: filled(template(source), name) for file, source in parts.items()}
    inside = nearest(lambda place: (place / "eqprop_lab" / "__init__.py").is_file(), folder)
    return {folder / file: text if inside else merged(text) for file, text in texts.items()}


def template(name: str) -> str:
    """The text of a starting point of the package."""
    path = resources.files("eqprop_lab").joinpath("assets/templates").joinpath(name)
    return path.read_text(encoding="utf-8")


def filled(text: str, name: str, number: str = "") -> str:
    """The text with its own name; of a notebook, with its number too."""
    text = text.replace(PLACEHOLDER, name).replace(CLASS, class_name(name))
    if not number:
        return text
    title = name.replace("_", " ").capitalize()
    return (
        text.replace(TITLE, title)
        .replace(f"nb{NUMBER}", f"nb{number}")
        .replace(f"# {NUMBER} ·", f"# {number} ·")
    )


def merged(text: str) -> str:
    """The imports sorted as ruff wants them where eqprop_lab is one installed package of many."""

    def one_block(found: re.Match[str]) -> str:
        lines = "".join(found.groups()).splitlines()
        lines.sort(key=lambda line: (line.startswith("from"), line.split()[1]))
        return "".join(f"{line}\n" for line in lines)

    return TWO_BLOCKS.sub(one_block, text)


def class_name(name: str) -> str:
    """my_model -> MyModel."""
    return "".join(part.capitalize() for part in name.split("_"))


def notebook_path(name: str, folder: Path) -> Path:
    """The file of a new notebook: the first number from 50 on that none in the folder has.

    Raises: FileExistsError for a name that another notebook there has, ValueError for no number.
    """
    there = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    for path in there:
        if path.stem[3:] == name:
            raise FileExistsError(f"{path} is there already, and is left as it is")
    taken = {path.name[:2] for path in there}
    for number in range(FIRST, LAST + 1):
        if str(number) not in taken:
            return folder / f"{number}_{name}.ipynb"
    raise ValueError(f"{folder} has a notebook for every number from {FIRST} to {LAST}")


def check_name(name: str, kind: str) -> None:
    """Raise ValueError unless it can be the name of a file, of a module and of what is in it."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(
            f"NAME must be a Python name in lower case, of letters, digits and single _ between "
            f"them, at most {LONGEST} characters, like my_{kind}; got {shown(name)}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name):
        raise ValueError(f"NAME must be a name of your own: Python itself has a {name!r}")
    if kind != "notebook" and name.startswith("test_"):
        raise ValueError(f"NAME must not begin with test_, which is for its tests; got {name!r}")


def check_free(name: str, kind: str) -> None:
    """Raise ValueError for a name that would hide something, or that is registered already."""
    if find_spec(name) is not None:
        raise ValueError(f"NAME must be new: there is a module {name!r}, which it would hide")
    used = {word for part in ("", "test_") for word in words(template(f"{part}{kind}.py.txt"))}
    clash = {name, class_name(name)} & used
    if clash:
        raise ValueError(
            f"NAME must be another name: {min(clash)!r} stands for something else in the "
            f"starting point of a {kind}"
        )
    if name in registered(kind):
        raise ValueError(f"NAME must be new: there is a {kind} {name!r} already")


def words(source: str) -> set[str]:
    """The names that occur in a Python source."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def registered(kind: str) -> Collection[str]:
    """The names that things of this kind have."""
    module, _, name = KINDS[kind].table.partition(":")
    if not module:
        return ()
    table = getattr(import_module(f"eqprop_lab.{module}"), name)
    names: Callable[[], Collection[str]] | None = getattr(table, "list_models", None)
    return list(table) if names is None else names()


def write(texts: dict[Path, str]) -> None:
    """Write all files or, where one cannot be written, none. Raises OSError."""
    for path in texts:
        check_target(path)
    done: list[Path] = []
    try:
        for path, text in texts.items():
            done.append(replace_text(path, text))
    except OSError:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def told(kind: str, texts: dict[Path, str]) -> list[str]:
    """What to do with what was written."""
    first, *tests = texts
    if kind == "notebook":
        return [
            f"  try it      papermill {first} out.ipynb -p seed 3",
            "  in a checkout, which keeps its outputs and knows the rules of a notebook",
            f"              python -m eqprop_lab run {first} --update",
            f"              python -m eqprop_lab lint-notebooks {first}",
        ]
    name, how = first.stem, KINDS[kind]
    lines = [
        f"  try it      python -m pytest {tests[0]}",
        f"  in Python   import {name}, in the folder of the file",
        f"              {filled(how.python, name)}",
    ]
    if how.yaml:
        lines += [
            f"  in YAML     {filled(how.yaml, name)}",
            f"              python -m eqprop_lab --import {name} train EXPERIMENT.yaml",
        ]
    return lines
