"""Language models at a true equilibrium, one file a variant, and their ordinary twins.

`__init__.pyi` lists the names; each loads its file when it is asked for.
"""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
