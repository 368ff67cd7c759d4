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
from eqprop_lab.validation import positive_int, real

UNSAFE = "--unsafe grades without isolation, with your rights: only for a class you trust"
ROSTER = "CSV with a column 'student' (and 'seed'): a seed for each"


def parser() -> argparse.ArgumentParser:
    """The arguments of `course`."""
    result = make_parser("course", "Editions of the series for a course, and grading.")
    steps = result.add_subparsers(dest="step", required=True, metavar="build|grade")
    editions = steps.add_parser("build", help="write the student and the instructor edition")
    editions.add_argument("notebooks", nargs="*", metavar="notebook", help="default: the series")
    editions.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    editions.add_argument("--roster", type=Path, metavar="FILE", help=ROSTER)
    grading = steps.add_parser("grade", help="run and judge what a class has handed in")
    add = grading.add_argument
    add("folder", type=Path, help="holds a folder for each student, with their notebooks in it")
    add("--out", type=Path, required=True, metavar="FILE", help="CSV; feedback/ goes beside it")
    add("--notebooks", nargs="+", default=[], metavar="NN", help="default: those handed in")
    add("--roster", type=Path, metavar="FILE", help=ROSTER)
    add("--jobs", type=int, default=2, help="submissions at a time (%(default)s)")
    add("--seconds", type=float, default=60.0, help="for an exercise (%(default)s)")
    add("--megabytes", type=int, default=4000, help="of memory (%(default)s)")
    add("--unsafe", action="store_true", help="grade without isolation: you trust the class")
    return result


def main(argv: Sequence[str]) -> int:
    """Build or grade; 2 for what cannot be."""
    arguments = parser().parse_args(argv)
    root = checkout()
    if root is None or not (root / "notebooks").is_dir():
        return refuse("course needs the checkout of the project: the notebooks are its masters")
    try:
        return STEPS[arguments.step](arguments, root)
    except (ParameterError, MasterError, RosterError, BuildError, OSError, ValueError) as error:
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


def grade_submissions(arguments: argparse.Namespace, root: Path) -> int:
    """`course grade`."""
    from eqprop_lab.course.classes import class_of, grade_class, handed_in
    from eqprop_lab.course.remote import Limits
    from eqprop_lab.course.report import totals, write_reports
    from eqprop_lab.course.sandbox import fault

    positive_int("--jobs", arguments.jobs)
    if arguments.out.resolve().is_relative_to(arguments.folder.resolve()):
        where = "feedback/ beside it would be taken for a student"
        return refuse(f"--out {arguments.out} lies among the submissions: {where}")
    real("--seconds", arguments.seconds, above=0)
    positive_int("--megabytes", arguments.megabytes)
    roster = read_roster(arguments.roster) if arguments.roster else None
    seeds = class_of(arguments.folder, roster)
    masters = [Master.read(path) for path in find_notebooks(arguments.notebooks, root)]
    masters = masters if arguments.notebooks else handed_in(arguments.folder, masters)
    if not masters:
        return refuse(f"{arguments.folder}: no notebook of the series is in it")
    problem = fault([*(master.path for master in masters), arguments.folder.resolve()])
    if problem and not arguments.unsafe:
        return refuse(f"submissions cannot be isolated here: {problem}. {UNSAFE}")
    if arguments.unsafe:
        print("--unsafe: submissions run with your rights, and could read and write your files")
    limits = Limits(arguments.seconds, arguments.megabytes, isolated=not arguments.unsafe)
    graded = grade_class(arguments.folder, masters, seeds, limits, arguments.jobs)
    pages = write_reports(arguments.out, graded, seeds)
    for student, each in graded.items():
        points, of = totals(each)
        print(f"{student}: {points:g} of {of}")
    print(f"grades: {arguments.out}   feedback: {pages}")
    return 0


STEPS = {"build": build_editions, "grade": grade_submissions}
