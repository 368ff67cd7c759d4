"""Regression: the numbered notebooks run through papermill and their recorded numbers are compared
(never imported by models or notebooks).
"""

from __future__ import annotations

from eqprop_lab.regression.plan import Options, find_notebooks, project_root
from eqprop_lab.regression.report import NotebookResult, table
from eqprop_lab.regression.runner import Run, run_notebooks

__all__ = [
    "NotebookResult",
    "Options",
    "Run",
    "find_notebooks",
    "project_root",
    "run_notebooks",
    "table",
]
