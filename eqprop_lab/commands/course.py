"""`python -m eqprop_lab course build|grade`: editions of the series, and a graded class."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.course.build import BuildError, build
from eqprop_lab.course.masters import Master, MasterError
from eqprop_lab.course.roster import RosterError, read_roster
from eqprop_lab.files import checkout
from eqprop_lab.regression.parameters import ParameterError
from eqprop_lab.regression.plan import find_notebooks

ROSTER = "CSV with a column 'student' (and 'seed'): a seed for each"


def parser() -> argparse.ArgumentParser:
    """The arguments of `course`."""
    result = make_parser("course", "Editions of the series for a course, and grading.")
    steps = result.add_subparsers(dest="step", required=True, metavar="build|grade")
    editions = steps.add_parser("build", help="write the student and the instructor edition")
    editions.add_argument("notebooks", nargs="*", metavar="notebook", help="default: the series")
    editions.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    editions.add_argument("--roster", type=Path, metavar="FILE", help=ROSTER)
    return result


def main(argv: Sequence[str]) -> int:
    """Build or grade; 2 for what cannot be."""
    arguments = parser().parse_args(argv)
    root = checkout()
    if root is None or not (root / "notebooks").is_dir():
        return refuse("course needs the checkout of the project: the notebooks are its masters")
    try:
        return STEPS[arguments.step](arguments, root)
    except (ParameterError, MasterError, RosterError, BuildError) as error:
        return refuse(error)


def build_editions(arguments: argparse.Namespace, root: Path) -> int:
    """`course build`."""
    masters = [Master.read(path) for path in find_notebooks(arguments.notebooks, root)]
    roster = read_roster(arguments.roster) if arguments.roster else None
    folders = build(root, masters, arguments.out, roster)
    exercises = sum(len(master.exercises) for master in masters)
    print(f"{len(masters)} notebooks, {exercises} exercises")
    for folder in folders:
        print(folder)
    return 0


STEPS = {"build": build_editions}
