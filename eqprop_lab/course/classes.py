"""A whole class: every submission of every student, a few at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from eqprop_lab.course.grading import Graded, grade
from eqprop_lab.course.masters import Master
from eqprop_lab.course.remote import Limits
from eqprop_lab.course.submissions import Submission, students_in, submission


def handed_in(folder: Path, masters: Sequence[Master]) -> list[Master]:
    """Those notebooks that at least one student has handed in."""
    return [m for m in masters if any(folder.rglob(m.path.name))]


def grade_class(
    folder: Path,
    masters: Sequence[Master],
    seeds: Mapping[str, int],
    limits: Limits,
    jobs: int = 2,
) -> dict[str, list[Graded]]:
    """Student -> every notebook of `masters`, graded; students are the keys of `seeds`."""
    # By notebook: a process runs the cells of a master once for all who have the same seed.
    every = [submission(folder, student, master) for master in masters for student in seeds]
    graded: dict[str, list[Graded]] = {student: [] for student in seeds}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        work = pool.map(_one, every, [seeds[s.student] for s in every], [limits] * len(every))
        for one in tqdm(work, "graded", len(every), disable=None):
            graded[one.submission.student].append(one)
    return graded


def _one(given: Submission, seed: int, limits: Limits) -> Graded:
    return grade(given, seed, limits)


def class_of(folder: Path, roster: Mapping[str, int] | None) -> dict[str, int]:
    """Student -> seed: of the roster, whoever handed something in; else of the folder, seed 0.

    Raises FileNotFoundError where there is no folder, or no student in it; ValueError for a folder
    of somebody who is not on the roster.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    there = students_in(folder)
    if not there:
        raise FileNotFoundError(f"{folder}: a folder for each student is needed, found none")
    if roster is None:
        return dict.fromkeys(there, 0)
    if strange := [name for name in there if name not in roster]:
        raise ValueError(f"not on the roster: {', '.join(strange)}")
    return dict(roster)
