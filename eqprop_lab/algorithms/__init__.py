"""Learning rules behind one interface: local gradients that any torch optimiser takes."""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
