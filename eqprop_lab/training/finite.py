"""What is not finite updates nothing: gradients are looked at before the optimiser sees them.

    ||g||_2 over all parameters, finite  <=>  nothing to look for

One fused norm a step, which gradient clipping takes over; the culprit is looked for only when there
is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def check_step(
    loss: Tensor, parameters: Mapping[str, nn.Parameter], clipping: bool = False
) -> Tensor:
    """The l2 norm of all gradients, if cost (B,) and gradients are finite.

    Raises ValueError naming what is not. A norm that overflows while every gradient is finite is an
    error only where it is needed, for clipping.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    norm = _norm(gradients)
    # One look at both: on a GPU each look waits for the device.
    if math.isfinite(float(loss.detach().sum() + norm)):
        return norm
    if not bool(torch.isfinite(loss).all()):
        raise ValueError(f"the cost is not finite{_because(parameters)}; nothing was updated")
    for name, parameter in parameters.items():
        if parameter.grad is not None and (text := _spoiled(parameter.grad)):
            raise ValueError(
                f"the gradient of {name} is not finite ({text}{_because(parameters)}); "
                "nothing was updated"
            )
    if clipping:
        kind = str(gradients[0].dtype).removeprefix("torch.")
        raise ValueError(
            f"the norm of the gradient is too large for {kind}, so that it cannot be clipped; "
            "nothing was updated"
        )
    return norm


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    values = [_values(gradient) for gradient in gradients]
    if not values or any(v.device != values[0].device for v in values):
        return nn.utils.get_total_norm(values)
    # The same sum without its bookkeeping, which costs a tenth of the step of a small network.
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))


def _values(tensor: Tensor) -> Tensor:
    return tensor.coalesce().values() if tensor.is_sparse else tensor


def check_parameters(parameters: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming the first parameter that is not finite: the step was too large."""
    for name, parameter in parameters.items():
        if text := _spoiled(parameter):
            raise ValueError(f"parameter {name} is not finite ({text})")


def _spoiled(tensor: Tensor) -> str:
    """How many values are not finite, or nothing."""
    values = _values(tensor.detach())
    count = int((~torch.isfinite(values)).sum())
    return f"{count} of {values.numel()} values" if count else ""


def _because(parameters: Mapping[str, Tensor]) -> str:
    try:
        check_parameters(parameters)
    except ValueError as error:
        return f", and {error}"
    return ""


@contextmanager
def unspoiled(buffers: Sequence[Tensor]) -> Iterator[None]:
    """Buffers a forward pass moves (the statistics of batch normalisation) go back when the batch
    fails.
    """
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)
        raise
