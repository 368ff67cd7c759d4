"""The weight of any linear map (dense or convolution) with an operator norm strictly below a cap, smoothly.

    W_eff = W / sqrt(1 + (m sigma / c)^2),    sigma ~ ||W|| at the true image size,    c the cap, m >= 1 a margin

The formula is that of `equilibrium.spectral`. The norm of a convolution is the norm of the map, not of its flattened
kernel, and sigma = ||W v|| is followed with a persistent block of vectors shaped like the input of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.spectral import MARGIN
from eqprop_lab.models.linear_maps import LinearMap
from eqprop_lab.validation import real

ROUNDS, GROWN = 8, 1.005  # rounds per update, as long as the estimate grows by more than this factor
FIRST_ROUNDS, STILL = 40, 1 + 1e-7  # the same for the first estimate


class BoundedMap(nn.Module):
    """Parametrisation W -> W_eff of a linear map, ||W_eff|| strictly below `cap` > 0 (None: no bound).

    Per update of W the block becomes the top Ritz vectors of W^T W in the space of [V, W^T W V, (W^T W)^2 V]. It moves
    only when W has changed, so W_eff is constant within a settle and reading it has no side effect.
    The gradient flows through sigma = ||W v||, v held fixed. The block is a buffer: a checkpoint holds it.

    Args: weight, the initial W; linear, the map it belongs to. Raises: ValueError for a cap that is not > 0.
    """

    basis: Tensor
    square: Tensor

    def __init__(self, weight: Tensor, linear: LinearMap, cap: float | None, vectors: int = 2) -> None:
        super().__init__()
        self.linear = linear
        self.cap = None if cap is None else real("cap", cap, above=0.0)
        # A generator of its own: the start is the same every time and the global one is left alone.
        start = torch.randn(vectors, *linear.in_shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("basis", start.to(weight))
        self.register_buffer("square", torch.ones((), dtype=weight.dtype, device=weight.device))  # sigma^2
        # Growth counts from a first estimate: the 1 above is none, and a norm below it would end the search at once.
        for rounds in (1, FIRST_ROUNDS - 1):
            self._follow(weight.detach(), rounds, STILL)
        self._seen: tuple[int, float] | None = None
        self._register_load_state_dict_pre_hook(self._forget)

    def _forget(self, *_: object) -> None:
        # A checkpoint holds W and the block that belongs to it: the load itself is not an update.
        self._seen = None

    def __getstate__(self) -> dict[str, Any]:
        # Nor is a copy, whose tensors count their versions anew.
        return {**self.__dict__, "_seen": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Nor a change of dtype or device.
        self._seen = None
        return super()._apply(fn, recurse)

    @property
    def sigma(self) -> float:
        """The followed norm of the raw weight, a little below the true one."""
        return float(self.square.sqrt())

    def scaled(self, factor: float) -> Self:
        """The same parametrisation for `factor` times the weight, in place: a new size, the same directions."""
        self.square.mul_(factor**2)
        return self

    @torch.no_grad()
    def _track(self, weight: Tensor) -> None:
        # Fused optimisers change a tensor without counting it as a new version: its size is looked at too.
        flat = weight.detach().flatten()
        seen = (weight._version, float(torch.dot(flat, flat)))
        if self._seen is not None and seen != self._seen:
            self._follow(weight.detach(), ROUNDS, GROWN)
        self._seen = seen

    @torch.no_grad()
    def _follow(self, weight: Tensor, rounds: int, grown: float) -> None:
        shape = self.linear.in_shape

        def apply(rows: Tensor) -> Tensor:
            images = rows.unflatten(1, shape)
            return self.linear.down(self.linear.up(images, weight), weight).flatten(1)

        rows = self.basis.flatten(1)
        for _ in range(rounds):
            size = self.square.clamp_min(torch.finfo(weight.dtype).tiny)
            once = apply(rows) / size
            space = torch.linalg.qr(torch.cat([rows, once, apply(once) / size]).T).Q
            values, rotation = torch.linalg.eigh(space.T @ apply(space.T.contiguous()).T)
            count = min(len(rows), len(values))
            rows = (space @ rotation[:, -count:].flip(1)).T.contiguous()
            before = float(self.square)
            self.square.copy_(values[-1].clamp_min(0))
            if float(self.square) <= grown**2 * before:
                break
        self.basis = rows.unflatten(1, shape)

    def forward(self, weight: Tensor) -> Tensor:
        """W -> W_eff, same shape."""
        if self.cap is None:
            return weight
        self._track(weight)
        image = self.linear.up(self.basis[:1], weight)
        return weight * torch.rsqrt(1.0 + image.square().sum() * (MARGIN / self.cap) ** 2)


def raw_norm(effective: float, cap: float | None) -> float:
    """The norm of W that gives W_eff the norm `effective` < cap / margin, the inverse of the formula above."""
    if cap is None:
        return effective
    return effective / (1 - (MARGIN * effective / cap) ** 2) ** 0.5
