"""The stored comparison of the learning rules: complete, and as good as the project asks."""

from __future__ import annotations

import json

import pytest

from eqprop_lab import list_algorithms
from tests.benchmarks.learning_rules import FLOOR, HIGHER, NAME, PLAN, RULES
from tests.benchmarks.published import RESULTS

FILE = RESULTS / f"{NAME}.json"


def test_every_rule_takes_part() -> None:
    assert sorted(RULES) == list_algorithms()


@pytest.mark.skipif(not FILE.exists(), reason="python -m tests.benchmarks.learning_rules makes it")
@pytest.mark.parametrize("name", RULES)
def test_a_rule_reaches_its_floor_on_the_test_set(name: str) -> None:
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    rows = [r for r in stored["rows"] if r["model"] == name]
    tuned = {r["learning_rate"] for r in rows if r["tuning"]}
    assert tuned == set(PLAN["learning_rates"])
    scored = [row for row in rows if not row["tuning"]]
    assert sorted(row["seed"] for row in scored) == list(range(PLAN["seeds"]))
    accuracy = sum(row["epochs"]["accuracy"] for row in scored) / len(scored)
    assert accuracy >= HIGHER.get(name, FLOOR)
    assert len({row["learning_rate"] for row in scored}) == 1
