"""Who is in a class: a CSV with a column `student`, and `seed` where it is not left to the name."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

SEEDS = 10_000


class RosterError(ValueError):
    """A list of students that cannot be used; the message says which line and why."""


def seed_of(student: str) -> int:
    """A seed between 1 and 9999 that belongs to a name: the same whenever and wherever asked."""
    digest = hashlib.sha256(student.encode("utf-8")).digest()
    return 1 + int.from_bytes(digest[:8], "big") % (SEEDS - 1)


def read_roster(path: Path) -> dict[str, int]:
    """Student -> seed. Raises RosterError for what is no such list."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RosterError(f"--roster {path.name}: {error}") from error
    if not rows or "student" not in rows[0]:
        raise RosterError(f"--roster {path.name}: a CSV with a column 'student' is needed")
    found: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        student = (row["student"] or "").strip()
        if not re.fullmatch(r"[\w.@+ -]*\w[\w.@+ -]*", student):
            raise RosterError(
                f"--roster {path.name}, line {line}: {student!r} has to serve as the name of a "
                "folder: letters, digits and . _ - @ + are accepted"
            )
        if student in found:
            raise RosterError(f"--roster {path.name}, line {line}: {student!r} is there twice")
        found[student] = _seed(student, (row.get("seed") or "").strip(), f"{path.name}, {line}")
    return found


def _seed(student: str, given: str, place: str) -> int:
    if not given:
        return seed_of(student)
    if not given.isdecimal() or int(given) >= 2**32:
        raise RosterError(f"--roster {place}: seed {given!r}; a whole number below 2**32 is needed")
    return int(given)
