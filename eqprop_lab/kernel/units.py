"""The units of a phase: what is kept instead of h = tanh(b), and how it follows from the product.

    s = f(gain b),    h = width s + offset

    tanh        f = tanh                 gain  1    width 1    offset  0
    logistic    f(a) = 1/(1 + e^a)       gain -2    width 2    offset -1
    shifted     f(a) = 2/(1 + e^a) - 1   gain -2    width 1    offset  0    = tanh b at a = -2 b

gain, width and offset go into weights and drives, once a batch: a step is one product, one sum with
the drive and f. Where NumPy has no tanh for the vectors of the machine (it has one for AVX-512),
the exponential takes less time. The logistic form keeps s near 1/2 where h is near 0, so that a
small difference of two states is rounded three times as much: it is for free phases. The shifted
one keeps h itself, and takes tanh for the last step.
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

Apply = Callable[..., None]
# Exact in every dtype; NumPy takes a microsecond longer to read a number of Python's.
ONE, TWO = np.float32(1), np.float32(2)


@dataclass(frozen=True)
class Units:
    """f, of arrays of any shape, and the numbers of the module.

    apply: (module, a, out), in place without `out`; a is overwritten. last: the same, rounded as
    little as tanh itself, for the last step of a phase (None: apply). fused: `a <- f(a + u)` as the
    body of one elementwise CUDA kernel.
    """

    name: str
    apply: Apply
    gain: float = 1.0
    width: float = 1.0
    offset: float = 0.0
    fused: str = ""
    last: Apply | None = None


def _tanh(xp: Any, a: Array, out: Array | None = None) -> None:
    xp.tanh(a, out=a if out is None else out)


def _logistic(xp: Any, a: Array, out: Array | None = None) -> None:
    xp.exp(a, out=a)
    xp.add(a, ONE, out=a)
    xp.divide(ONE, a, out=a if out is None else out)


def _shifted(xp: Any, a: Array, out: Array | None = None) -> None:
    xp.exp(a, out=a)
    xp.add(a, ONE, out=a)
    xp.divide(TWO, a, out=a)
    xp.subtract(a, ONE, out=a if out is None else out)


def tanh_of_scaled(gain: float) -> Apply:
    """tanh(a / gain)."""

    def last(xp: Any, a: Array, out: Array | None = None) -> None:
        xp.multiply(a, 1 / gain, out=a)
        xp.tanh(a, out=a if out is None else out)

    return last


TANH = Units("tanh", _tanh, fused="out = tanh(a + u)")
LOGISTIC = Units("logistic", _logistic, -2.0, 2.0, -1.0, fused="out = 1 / (1 + exp(a + u))")
SHIFTED = Units(
    "shifted", _shifted, -2.0, fused="out = 2 / (1 + exp(a + u)) - 1", last=tanh_of_scaled(-2.0)
)


def quickest(xp: Any, dtype: Any) -> tuple[Units, Units]:
    """What this machine steps fastest, exact enough in this dtype: for a free phase, for nudged."""
    slow = xp is np and dtype == np.float32 and quick_tanh.WAY != quick_tanh.NUMPY
    return (LOGISTIC, SHIFTED) if slow else (TANH, TANH)


def check_units(name: str, units: object) -> None:
    """Raise TypeError unless these are units."""
    if not isinstance(units, Units):
        raise TypeError(f"{name} must be units such as `units.TANH`, got {shown(units)}")


class Steps:
    """What a step does beside its product, in place: one kernel on CuPy, two or more passes else.

    activate: out <- f(a + u). scale: a <- n a + g.
    """

    def __init__(self, ops: Operations, units: Units) -> None:
        self.ops, self.xp, self.units = ops, ops.xp, units
        compiled = ops.elementwise
        self._activate = self._scale = None
        if compiled is not None:
            self._activate = compiled("T a, T u", "T out", units.fused, f"eqprop_{units.name}")
            self._scale = compiled("T a, T d, T g", "T out", "out = d * a + g", "eqprop_scale")

    def activate(self, a: Array, u: Array, out: Array, last: bool = False) -> None:
        """out <- f(a + u); a is overwritten. last: no step follows that would shrink rounding."""
        if self._activate is not None:
            self._activate(a, u, out)
            return
        self.xp.add(a, u, out=a)
        exact = self.units.last
        (self.units.apply if exact is None or not last else exact)(self.xp, a, out)

    def scale(self, a: Array, n: Array, g: Array) -> None:
        """a <- n a + g."""
        if self._scale is not None:
            self._scale(a, n, g, a)
        else:
            self.xp.multiply(a, n, out=a)
            self.xp.add(a, g, out=a)
