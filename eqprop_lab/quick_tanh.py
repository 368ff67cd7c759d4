"""How this machine's CPU evaluates tanh in float32, chosen once from what its processor has.

    numpy     tanh(a) by NumPy, on the memory of a tensor    where NumPy has it for AVX-512
    sigmoid   tanh(a) = 2 sigma(2a) - 1                      elsewhere: half the time or less

The largest errors are 6e-8 and 1.8e-7. The second is absolute: values far below 1 keep fewer
digits. The doubling of a costs nothing where a product makes a: it is scaled by `GAIN`. This file
only knows; `equilibrium.activations` and `kernel.units` compute.
"""

from __future__ import annotations

import numpy as np

NUMPY, SIGMOID = WAYS = ("numpy", "sigmoid")
GAINS = {NUMPY: 1.0, SIGMOID: 2.0}


def _has_quick_tanh() -> bool:
    """Whether NumPy's float32 tanh is written for AVX-512 vectors, and this machine has them."""
    found = np.lib.introspect.opt_func_info(func_name="^tanh$", signature="float32")
    return any("V4" in kind["current"] for kind in found.get("tanh", {}).values())


WAY = NUMPY if _has_quick_tanh() else SIGMOID
GAIN = GAINS[WAY]


def chosen() -> str:
    """The choice in words."""
    if WAY == NUMPY:
        return "tanh by NumPy (it has AVX-512)"
    return "tanh as 2 sigma(2a) - 1 (NumPy has no tanh for AVX-512 here)"
