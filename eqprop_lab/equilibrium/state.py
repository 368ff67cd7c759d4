"""What a relaxation moves, and all that it may ask of what is moved.

State   a tuple of tensors, one a block, batch first
Nudge   state -> what is subtracted from each block's force (None: nothing)

a_l = force_l(s) - nudge_l(s):   the sign of every nudge is the one in `nudged`
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Nudge = Callable[[State], tuple[Tensor | None, ...]]


class Steppable(Protocol):
    """What `settle` and its solvers ask: a step of the whole state, or of one group of blocks."""

    groups: tuple[tuple[int, ...], ...]
    products: torch.dtype | None

    def frozen_weights(self) -> AbstractContextManager[None]:
        """A body in which the weights are evaluated once."""

    def step(
        self, state: State, drive: State, nudge: Nudge | None = None, out: State | None = None
    ) -> State:
        """F(s), every group once; `out` may be written into."""

    def update(
        self, group: tuple[int, ...], state: State, drive: State, nudge: Nudge | None = None
    ) -> State:
        """The state after one group has moved."""


class Relaxable(Steppable, Protocol):
    """What a free phase asks besides: from a batch to its drive and where the state begins."""

    max_steps: int
    metric_condition: float
    starts_at_rest: bool

    def check_batch(self, x: Tensor) -> None:
        """Raise when x cannot be fed to it."""

    def tokens(self, x: Tensor) -> int | None:
        """Rows of one sample in causal order, None where rows do not meet."""

    def drive(self, x: Tensor) -> State:
        """What depends on the input only."""

    def initial_state(self, drive: State) -> State:
        """Where the state begins."""

    def contraction_bound(self) -> float:
        """Certified Lipschitz constant of a step."""


def moving(groups: tuple[tuple[int, ...], ...], state: State, begun: State) -> State:
    """The state, with the clamped blocks, which no group moves, as they are in `begun`."""
    return tuple(
        block if any(number in group for group in groups) else begun[number]
        for number, block in enumerate(state)
    )


def added(force: State, pulls: tuple[Tensor | None, ...], factor: float) -> State:
    """force_l + factor pull_l, block by block."""
    return tuple(
        f if pull is None else torch.add(f, pull, alpha=factor)
        for f, pull in zip(force, pulls, strict=True)
    )


def nudged(force: State, state: State, nudge: Nudge, gain: float = 1.0) -> State:
    """force_l - gain nudge_l(state). A nudge with a method `add(force, state, factor)` does it
    itself, in place if it likes.
    """
    factor = -gain
    add = getattr(nudge, "add", None)
    return added(force, nudge(state), factor) if add is None else add(force, state, factor)
