"""Whole experiments: presets, YAML files, runs and what differs between them, shipped networks."""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
