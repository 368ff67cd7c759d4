"""Waiting for what another thread or process does. No test asserts how long anything took."""

from __future__ import annotations

import time
from collections.abc import Callable

# s. Only ends a test that would hang; far above what a machine with other work needs. What must not
# end by itself while somebody waits has to last longer.
PATIENCE = 300.0


def until(holds: Callable[[], bool], what: str = "the event") -> None:
    """Return as soon as `holds()`; fail when it does not come at all."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
