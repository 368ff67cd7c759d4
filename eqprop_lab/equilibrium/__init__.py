"""The physics, independent of the model: certified spectra, relaxation, gradient estimators."""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
