"""What the notebooks use: start, figures, metrics, checks, explorers and the training cockpit."""

from __future__ import annotations

from eqprop_lab.notebook.background import AlreadyRunning, StopRequested, TrainingWorker
from eqprop_lab.notebook.claims import (
    CheckFailed,
    check_at_least,
    check_at_most,
    check_close,
    check_equal,
)
from eqprop_lab.notebook.cockpit import TrainingCockpit
from eqprop_lab.notebook.controls import Choice, Slider, Toggle
from eqprop_lab.notebook.exercises import Exercise
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.figures import show
from eqprop_lab.notebook.metrics import provenance, record, stored, stored_names
from eqprop_lab.notebook.questions import quiz
from eqprop_lab.notebook.session import Session, require, setup
from eqprop_lab.notebook.style import (
    INK,
    MARKERS,
    NEUTRAL,
    PALETTE,
    SIGNED,
    SIGNED_CHANGE,
    new_figure,
)
from eqprop_lab.notebook.text_box import TextBox

__all__ = [
    "INK",
    "MARKERS",
    "NEUTRAL",
    "PALETTE",
    "SIGNED",
    "SIGNED_CHANGE",
    "AlreadyRunning",
    "CheckFailed",
    "Choice",
    "Exercise",
    "Explorer",
    "Session",
    "Slider",
    "StopRequested",
    "TextBox",
    "Toggle",
    "TrainingCockpit",
    "TrainingWorker",
    "check_at_least",
    "check_at_most",
    "check_close",
    "check_equal",
    "new_figure",
    "provenance",
    "quiz",
    "record",
    "require",
    "setup",
    "show",
    "stored",
    "stored_names",
]
