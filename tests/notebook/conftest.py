"""Outputs are caught instead of displayed; style and session are as before after every test."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import matplotlib
import pytest

from eqprop_lab.notebook import figures, metrics, output, questions, session

Output = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    state = random.getstate()
    monkeypatch.setattr(session, "_current", None)
    monkeypatch.setattr(metrics, "_recorded", {})
    for variable in (figures.FIGURES_DIR, figures.NOTEBOOK, metrics.RESULTS_DIR):
        monkeypatch.delenv(variable, raising=False)
    with matplotlib.rc_context():
        yield
    random.setstate(state)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Output]:
    """Every bundle the notebook tools display, as (data, metadata)."""
    outputs: list[Output] = []

    def catch(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        outputs.append((data, metadata or {}))

    for module in (figures, metrics, output, questions):
        monkeypatch.setattr(module, "emit", catch)
    return outputs
