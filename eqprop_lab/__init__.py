"""eqprop_lab: learn and research Equilibrium Propagation, in notebooks and one compact package.

`__init__.pyi` lists the public names; each loads its room when it is asked for.
"""

from __future__ import annotations

from eqprop_lab.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
