"""What an estimator needs of a model, a batch and its surroundings, looked at in one place before
any phase is relaxed.

    float32, float64     every estimator
    bfloat16             response, implicit: they take no difference of two states
    float16, autocast    none: 5 bits of exponent; weights rounded behind the model's back

D = (s+ - s-)/2 is of size beta, the rounding of s+ and s- in bfloat16 of size 2^-9 |s|: `one_sided`
was seen 680 % off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import EquilibriumModel

NO_DIFFERENCE = ("response", "implicit")


def original(model: nn.Module) -> nn.Module:
    """The module itself where `model` is torch.compile's wrapper of it; they share everything but
    the forward call.
    """
    return getattr(model, "_orig_mod", model)


def equilibrium_model(model: object) -> EquilibriumModel:
    """The EquilibriumModel, out of torch.compile's wrapper if need be. Raises TypeError for
    anything else.
    """
    found = original(model) if isinstance(model, nn.Module) else model
    if not isinstance(found, EquilibriumModel):
        raise TypeError(
            f"model: {type(model).__name__} is not an EquilibriumModel; ordinary modules train "
            "with gradient='autograd'"
        )
    return found


def check_trainable(model: nn.Module) -> nn.Parameter:
    """The first parameter of a module to train. Raises ValueError where nothing can be trained."""
    first = next(model.parameters(), None)
    if first is None:
        raise ValueError(f"model must have parameters to train, {type(model).__name__} has none")
    if first.is_inference():
        raise ValueError(
            "model must not be built under torch.inference_mode(): such parameters can never be "
            "trained; build it outside"
        )
    return first


def check_precision(x: Tensor, estimator: str) -> None:
    """Raise ValueError where the numbers are too coarse for this estimator. x: as the model takes
    it.
    """
    if torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"estimator={estimator!r} is refused inside torch.autocast, which would round weights "
            "and states alike; leave it, and ask for amp=True in EqPropTrainer (response, implicit)"
        )
    allowed = NO_DIFFERENCE if x.dtype == torch.bfloat16 else ()
    if x.dtype in (torch.bfloat16, torch.float16) and estimator not in allowed:
        kind = str(x.dtype).removeprefix("torch.")
        raise ValueError(
            f"estimator={estimator!r} is refused in {kind}: the difference of two nearly equal "
            "states would be mostly rounding; use float32 (model.float()), or "
            f"{' and '.join(NO_DIFFERENCE)} in bfloat16"
        )


@contextmanager
def recording(x: Tensor) -> Iterator[Tensor]:
    """x as a tensor that graphs can be built on, and, inside, a mode in which they can: also under
    inference_mode.
    """
    if not torch.is_inference_mode_enabled() and not x.is_inference():
        yield x
        return
    with torch.inference_mode(False):
        yield x.clone() if x.is_inference() else x
