"""The dashboard: trainings of vision and of language with their controls, curves and runs."""

from __future__ import annotations

from eqprop_lab.notebook.dashboard.dashboard import Dashboard

__all__ = ["Dashboard"]
