"""What a page of the application shows: a dashboard whose runs no other visitor sees."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import torch

from eqprop_lab.notebook.dashboard.dashboard import Dashboard
from eqprop_lab.notebook.style import apply_style

RUNS = "EQPROP_DASHBOARD_RUNS"
"""The environment variable that names the folder of all visits."""


def visitors_dashboard() -> Dashboard:
    """A dashboard with a folder of its own in $EQPROP_DASHBOARD_RUNS, made at its first Start."""
    apply_style()
    # One thread a visitor: two trainings and the page share the machine.
    torch.set_num_threads(1)
    return Dashboard(Path(os.environ.get(RUNS, "runs/dashboard")) / uuid.uuid4().hex)
