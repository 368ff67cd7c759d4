"""The units of a phase: what is kept instead of h = tanh(b), and how it follows from the product.

    s = f(gain b),    h = width s + offset

    tanh        f = tanh             gain  1    width 1    offset  0
    logistic    f(a) = 1/(1 + e^a)   gain -2    width 2    offset -1    as tanh b = 2/(1+e^-2b) - 1

gain, width and offset go into weights and drives, once a batch: a step is one product, one sum with
the drive and f. Where NumPy has no tanh for the vectors of the machine (it has one for AVX-512),
the logistic form takes three quarters of the time. It keeps s near 1/2 where h is near 0, so that a
small difference of two states is rounded a little more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqprop_lab import quick_tanh
from eqprop_lab.kernel.arrays import Array
from eqprop_lab.kernel.operations import Operations
from eqprop_lab.validation import shown


@dataclass(frozen=True)
class Units:
    """f in place, of arrays of any shape, and the numbers of the module.

    fused: `a <- f(a + u)` as the body of one elementwise CUDA kernel.
    """

    name: str
    apply: Callable[[Any, Array], None]
    gain: float = 1.0
    width: float = 1.0
    offset: float = 0.0
    fused: str = ""


def _tanh(xp: Any, a: Array) -> None:
    xp.tanh(a, out=a)


def _logistic(xp: Any, a: Array) -> None:
    xp.exp(a, out=a)
    xp.add(a, 1, out=a)
    xp.reciprocal(a, out=a)


TANH = Units("tanh", _tanh, fused="out = tanh(a + u)")
LOGISTIC = Units("logistic", _logistic, -2.0, 2.0, -1.0, fused="out = 1 / (1 + exp(a + u))")


def quickest(xp: Any, dtype: Any) -> Units:
    """The units that this machine steps fastest, exact enough for a free phase in this dtype."""
    slow = xp is np and dtype == np.float32 and quick_tanh.WAY != quick_tanh.NUMPY
    return LOGISTIC if slow else TANH


def check_units(name: str, units: object) -> None:
    """Raise TypeError unless these are units."""
    if not isinstance(units, Units):
        raise TypeError(f"{name} must be units such as `units.TANH`, got {shown(units)}")


class Steps:
    """What a step does beside its product, in place: one kernel on CuPy, two or more passes else.

    activate: a <- f(a + u). scale: a <- n a + g.
    """

    def __init__(self, ops: Operations, units: Units) -> None:
        self.ops, self.xp, self.units = ops, ops.xp, units
        compiled = ops.elementwise
        self._activate = self._scale = None
        if compiled is not None:
            self._activate = compiled("T a, T u", "T out", units.fused, f"eqprop_{units.name}")
            self._scale = compiled("T a, T d, T g", "T out", "out = d * a + g", "eqprop_scale")

    def activate(self, a: Array, u: Array) -> None:
        """a <- f(a + u)."""
        if self._activate is not None:
            self._activate(a, u, a)
        else:
            self.xp.add(a, u, out=a)
            self.units.apply(self.xp, a)

    def scale(self, a: Array, n: Array, g: Array) -> None:
        """a <- n a + g."""
        if self._scale is not None:
            self._scale(a, n, g, a)
        else:
            self.xp.multiply(a, n, out=a)
            self.xp.add(a, g, out=a)
