"""What measures a model and changes nothing: gradients, norms, memory, relaxations."""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
