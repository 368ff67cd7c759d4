"""`verify_spectral_norm`: is the norm every layer promises the norm it has?

A promise is the `cap` of a parametrisation (`spectral.Bounded`), or 1 for torch's own
`parametrizations.spectral_norm`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from eqprop_lab.equilibrium.norms import (
    DENSE_UP_TO,
    conv_bound,
    conv_norm,
    exact_conv_norm,
    exact_norm,
    operator_norm,
)
from eqprop_lab.equilibrium.top_vectors import seed_of
from eqprop_lab.modules import evaluated
from eqprop_lab.tables import text_table
from eqprop_lab.validation import shape

ROUNDING = 1e-6
"""A norm may exceed its cap by this share: rounding of a float32 weight."""


@dataclass(frozen=True)
class LayerNorm:
    """One weight. cap: what is promised (None: nothing). norm: at the image size seen (None: not
    measured). bound: certified, >= the norm. method: what the verdict rests on: "exact", the norm,
    from the whole matrix; "certified", the bound (a norm beside it was approached from below and is
    only shown); or "unchecked".
    """

    layer: str
    kind: str
    cap: float | None
    norm: float | None
    bound: float
    method: str

    @property
    def holds(self) -> bool | None:
        """Whether the promise holds; None where there is none."""
        if self.cap is None:
            return None
        decides = self.norm if self.method == "exact" and self.norm is not None else self.bound
        return decides <= self.cap * (1 + ROUNDING)


@dataclass(frozen=True)
class SpectralTable:
    """The rows of `verify_spectral_norm`; print it."""

    rows: tuple[LayerNorm, ...]

    def __iter__(self) -> Iterator[LayerNorm]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, layer: str) -> LayerNorm:
        """The row of a layer by name; KeyError otherwise."""
        return {row.layer: row for row in self.rows}[layer]

    def __str__(self) -> str:
        words = {True: "yes", False: "NO", None: "no promise"}
        head = ("layer", "kind", "cap", "norm", "bound", "method", "holds")
        rows = [
            (r.layer, r.kind, *map(_number, (r.cap, r.norm, r.bound)), r.method, words[r.holds])
            for r in self.rows
        ]
        return "\n".join(text_table([head, *rows], right=(2, 3, 4)))


class SpectralNormError(ValueError):
    """A layer breaks the norm it promises; `table` holds all rows."""

    def __init__(self, message: str, table: SpectralTable) -> None:
        super().__init__(message)
        self.table = table


def verify_spectral_norm(
    model: nn.Module, input_shape: Sequence[int] | None = None
) -> SpectralTable:
    """The norm of every Linear, Conv2d and parametrised weight and of the maps of a layered model
    (ConvEqProp, DeepEqProp), held against what the layer promises.

    A matrix is measured exactly. A convolution has a norm for each image size: with `input_shape`
    (of one sample, without the batch) it is measured at the sizes it meets in a forward pass;
    without, the verdict rests on the Fourier bound, which covers every size. A layered model knows
    its sizes. A verdict is given by the singular values of the whole matrix or by an upper bound,
    never by an iteration that comes from below. The weights are read in eval mode; nothing of the
    model is changed.

    Raises: SpectralNormError naming layer, norm and cap when a promise is broken or cannot be
    checked.
    """
    sample = None if input_shape is None else shape("input_shape", input_shape)
    # training, torch's spectral_norm moves when its weight is read
    with torch.no_grad(), evaluated(model):
        sizes = {} if sample is None else _image_sizes(model, sample)
        rows = [_rows(name, module, sizes) for name, module in model.named_modules()]
        table = SpectralTable(tuple(chain.from_iterable(rows)))
    broken = [row for row in table if row.holds is False]
    if broken:
        raise SpectralNormError("; ".join(_complaint(row) for row in broken) + f"\n{table}", table)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _complaint(row: LayerNorm) -> str:
    promise = f"{row.layer} ({row.kind}) promises a norm of at most {row.cap:g}"
    if row.method == "unchecked":
        return f"{promise}, which cannot be checked for a weight of this kind"
    if row.method == "certified":
        shown = "no norm below it decides"
        if row.norm is None:
            shown = "pass input_shape to measure its norm at that size"
        elif row.norm > (row.cap or 0.0):
            shown = f"its norm is at least {row.norm:.6f}"
        return f"{promise}, and only {row.bound:.6f} is certified; {shown}"
    return f"{promise} and has norm {row.norm:.6f}"


def _image_sizes(
    model: nn.Module, input_shape: Sequence[int]
) -> dict[nn.Module, set[tuple[int, int]]]:
    """Height and width of every input each Conv2d meets in one forward pass of zeros."""
    sizes: dict[nn.Module, set[tuple[int, int]]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.setdefault(module, set()).add((inputs[0].shape[-2], inputs[0].shape[-1]))

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        first = next(model.parameters())
        model(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _cap(parametrisations: Sequence[nn.Module]) -> float | None:
    for module in reversed(list(parametrisations)):
        if isinstance(module, _SpectralNorm):
            return 1.0
        if getattr(module, "cap", None) is not None:
            return float(module.cap)  # type: ignore[arg-type]
    return None


def _rows(
    name: str, module: nn.Module, sizes: dict[nn.Module, set[tuple[int, int]]]
) -> Iterator[LayerNorm]:
    chains = dict(module.parametrizations.items()) if parametrize.is_parametrized(module) else {}  # type: ignore[union-attr, operator]
    linear = _own_map(module)
    names = list(chains)
    if "weight" not in chains and (linear or isinstance(module, (nn.Linear, nn.Conv2d))):
        names.insert(0, "weight")
    own = type(linear) if linear else parametrize.type_before_parametrizations(module)
    for tensor in names:
        kind = own.__name__ if tensor == "weight" else "Parameter"
        layer = name if tensor == "weight" and name else ".".join(filter(None, (name, tensor)))
        cap = _cap(chains[tensor]) if tensor in chains else None
        measured = _norm(module, tensor, linear, sizes.get(module, set()))
        yield LayerNorm(layer, kind, cap, *measured)


def _own_map(module: nn.Module) -> Any:
    """The linear map that a layer carries beside its weight; None for other modules."""
    linear = getattr(module, "linear", None)
    if "weight" not in module._parameters and not parametrize.is_parametrized(module, "weight"):
        return None
    return linear if callable(getattr(linear, "norm_bound", None)) else None


def _norm(
    module: nn.Module, tensor: str, linear: Any, sizes: set[tuple[int, int]]
) -> tuple[float | None, float, str]:
    """(norm, bound, method) of one weight."""
    weight: Tensor = getattr(module, tensor)
    if not bool(torch.isfinite(weight).all()):
        return math.nan, math.nan, "exact"
    if tensor == "weight" and linear:
        return _map_norm(linear, weight)
    if weight.ndim == 2:
        norm = exact_norm(weight)
        return norm, norm, "exact"
    if not (
        isinstance(module, nn.Conv2d) and tensor == "weight" and module.padding_mode == "zeros"
    ):
        return None, math.inf, "unchecked"
    bound = conv_bound(weight, module.stride, module.dilation, module.groups)
    if not sizes:
        return None, bound, "certified"
    geometry = module.stride, module.padding, module.dilation, module.groups
    found = [exact_conv_norm(weight, size, *geometry) for size in sizes]
    exact = [norm for norm in found if norm is not None]
    if len(exact) == len(sizes):
        return max(exact), bound, "exact"
    return max(conv_norm(weight, size, *geometry) for size in sizes), bound, "certified"


def _map_norm(linear: Any, weight: Tensor) -> tuple[float | None, float, str]:
    """(norm, bound, method) at the one image size of a map."""
    bound = linear.norm_bound(weight)
    units = math.prod(linear.in_shape)
    if weight.ndim == 2 or min(units, math.prod(linear.out_shape)) <= DENSE_UP_TO:
        return bound, bound, "exact"
    kernel = weight.detach().cpu().double()

    def square(rows: Tensor) -> Tensor:
        return linear.down(linear.up(rows.unflatten(1, linear.in_shape), kernel), kernel).flatten(1)

    return operator_norm(square, units, 1e-4, seed=seed_of(kernel)), bound, "certified"
