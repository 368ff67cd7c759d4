"""Answers to the exercises of notebook 15 as learners give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqprop_lab.experiments import paired
from tests.course.answers import right, wrong

Row = dict[str, Any]

# --- expected_best


def shares(n: int, k: int) -> np.ndarray:
    return np.diff((np.arange(n + 1) / n) ** k)


@wrong("expected_best", "the direction is not looked at")
def always_the_largest(values: np.ndarray, k: int, direction: str) -> float:
    ordered = np.sort(values) if direction == "minimize" else np.sort(values)[::-1]
    return float(ordered @ shares(len(values), k))


@wrong("expected_best", "the best of all: k is not used")
def best_of_all(values: np.ndarray, k: int, direction: str) -> float:
    return float(values.max() if direction == "maximize" else values.min())


@wrong("expected_best", "the mean: k is not used")
def mean_of_all(values: np.ndarray, k: int, direction: str) -> float:
    return float(values.mean())


@wrong("expected_best", "sorted first")
def unsorted(values: np.ndarray, k: int, direction: str) -> float:
    return float(values @ shares(len(values), k))


@wrong("expected_best", "a value can come twice")
def without_replacement(values: np.ndarray, k: int, direction: str) -> float:
    import itertools

    best = max if direction == "maximize" else min
    drawn = itertools.combinations(values, min(k, len(values)))
    return float(np.mean([best(some) for some in drawn]))


@right("expected_best")
def by_tails(values: np.ndarray, k: int, direction: str) -> float:
    sign = 1 if direction == "maximize" else -1
    low, *steps = np.sort(sign * values)
    n, found, before = len(values), float(low), float(low)
    for i, value in enumerate(steps, start=1):
        found += (value - before) * (1 - (i / n) ** k)
        before = value
    return sign * found


# --- holm


def running(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    out = np.empty(len(values))
    out[order] = np.minimum(1.0, np.maximum.accumulate(values))
    return out


@wrong("holm", "Bonferroni")
def bonferroni(p: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, len(p) * p)


@wrong("holm", "none may fall below one before it")
def not_rising(p: np.ndarray) -> np.ndarray:
    ranks = np.argsort(np.argsort(p))
    return np.minimum(1.0, (len(p) - ranks) * p)


@wrong("holm", "sorted order")
def left_sorted(p: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, np.maximum.accumulate(np.arange(len(p), 0, -1) * np.sort(p)))


@wrong("holm", "the smallest gets the largest factor")
def from_the_wrong_end(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p)
    return running(np.arange(1, len(p) + 1) * p[order], order)


@wrong("holm", "the last factor is 1")
def one_too_few(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p)
    return running(np.arange(len(p) - 1, -1, -1) * p[order], order)


@wrong("holm", "uses holm_of_package; do it without")
def of_the_package(p: np.ndarray) -> np.ndarray:
    return np.array(holm_of_package(p))


holm_of_package = paired.holm


@right("holm")
def by_definition(p: np.ndarray) -> np.ndarray:
    m, ordered = len(p), sorted(p)
    return np.array(
        [min(1, max((m - j) * ordered[j] for j in range(m) if ordered[j] <= q)) for q in p]
    )


# --- hand_out

Answer = tuple[list[Row], Any]


def handed(after: list[Row], now: float) -> Answer:
    for index, row in enumerate(after):
        if row["state"] == "WAITING":
            row |= {"state": "RUNNING", "beat": now}
            return after, index
    return after, None


def bury(rows: list[Row], now: float, grace: float, retries: int, more: int = 1) -> list[Row]:
    after = [dict(row) for row in rows]
    for row in after[: len(rows)]:
        if row["state"] == "RUNNING" and now - row["beat"] > grace:
            row["state"] = "FAIL"
            if row["deaths"] < retries:
                fresh = {"state": "WAITING", "beat": now, "deaths": row["deaths"] + more}
                after.append(row | fresh)
    return after


@wrong("hand_out", "has to fail")
def never_looks_for_the_dead(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    return handed([dict(row) for row in rows], now)


@wrong("hand_out", "alive was touched")
def without_grace(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    return handed(bury(rows, now, 0.0, retries), now)


@wrong("hand_out", "stands at the end once more")
def for_ever(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    return handed(bury(rows, now, grace, 10**6), now)


@wrong("hand_out", "stands at the end once more")
def without_counting(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    return handed(bury(rows, now, grace, retries, more=0), now)


@wrong("hand_out", "its death is never seen")
def without_a_beat(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    after, index = handed(bury(rows, now, grace, retries), now)
    if index is not None:
        after[index]["beat"] = now - 1.0
    return after, index


@wrong("hand_out", "one trial is handed out, not several")
def all_at_once(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    after, first = handed(bury(rows, now, grace, retries), now)
    while handed(after, now)[1] is not None:
        pass
    return after, first


@wrong("hand_out", "the first that waits is handed out")
def the_last_that_waits(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    after = bury(rows, now, grace, retries)
    waiting = [index for index, row in enumerate(after) if row["state"] == "WAITING"]
    after[waiting[-1]] |= {"state": "RUNNING", "beat": now}
    return after, waiting[-1]


@wrong("hand_out", "what is over stays as it is")
def fails_again(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    waiting = {"FAIL": "WAITING"}
    rows = [row | {"state": waiting.get(row["state"], row["state"])} for row in rows]
    return handed(bury(rows, now, grace, retries), now)


@wrong("hand_out", "give back (the new list, an index)")
def the_index_alone(rows: list[Row], now: float, grace: float, retries: int) -> Any:
    return handed(bury(rows, now, grace, retries), now)[1]


@wrong("hand_out", "no row may be lost")
def without_the_dead(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    after = bury(rows, now, grace, retries)
    return handed([row for row in after if row["state"] in ("WAITING", "DONE")], now)


@right("hand_out")
def in_two_passes(rows: list[Row], now: float, grace: float, retries: int) -> Answer:
    dead = [r for r in rows if r["state"] == "RUNNING" and r["beat"] < now - grace]
    after = [row | {"state": "FAIL" if row in dead else row["state"]} for row in rows]
    lost = [r for r in dead if r["deaths"] < retries]
    fresh = {"state": "WAITING", "beat": now}
    after += [{"point": r["point"], **fresh, "deaths": r["deaths"] + 1} for r in lost]
    return handed(after, now)
