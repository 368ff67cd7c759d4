"""Ordinary convolutional networks of the literature, to stand beside the equilibrium networks.

`__init__.pyi` lists the names; each loads its file when it is asked for.
"""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
