"""bfloat16 where it is safe: the matrix products of relaxations that take no difference of two
states.

    response, implicit   force and readout products in bfloat16; the rest stays float32
    autograd             torch.autocast(bfloat16) around the forward pass
    all others           refused: D = (s+ - s-)/2 is of size beta, its rounding of size 2^-9 |s|

Measured relative gradient error with these products (64-64-10, digits): `response` and `implicit`
2e-3; `centered` 20 % at beta = 0.01 and 3 % at 0.1; `one_sided` 46 % and 10 %.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from eqprop_lab.equilibrium.state import State
from eqprop_lab.equilibrium.view import ModelView
from eqprop_lab.validation import switch

SAFE = ("response", "implicit", "autograd")


def check_amp(amp: object, gradient: str) -> bool:
    """`amp`, if it is a bool that suits the gradients. Raises TypeError, ValueError."""
    amp = switch("amp", amp)
    if amp and gradient not in SAFE:
        why = (
            "it is the reference that the others are measured against, and kept in full precision"
            if gradient.endswith("bptt")
            else "it divides the difference of two nearly equal states by beta, and bfloat16 keeps "
            "8 bits of each: most of the difference is rounding (gradient error 20 % at beta = "
            "0.01)"
        )
        raise ValueError(
            f"amp=True is refused with gradient={gradient!r}: {why}; use one of {', '.join(SAFE)}"
        )
    return amp


def autocast(amp: bool, device: torch.device) -> AbstractContextManager[object]:
    """torch.autocast to bfloat16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if amp else nullcontext()


class LowPrecision(ModelView):
    """A view of a model whose force and readout products are rounded to bfloat16. States stay
    float32, and the parameter gradients are computed by the model itself, in full precision.
    """

    products = torch.bfloat16

    def force(self, state: State, drive: State) -> State:
        """The model's force from bfloat16 products, returned in the dtype of the state."""
        # Frozen first, so that the weights themselves are evaluated in full precision.
        with self.model.frozen_weights(), autocast(True, state[0].device):
            forces = self.model.force(state, drive)
        return tuple(f.to(s.dtype) for f, s in zip(forces, state, strict=True))
