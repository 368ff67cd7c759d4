"""The buffers of a kernel: made once for the largest batch, written by every step.

Their size is a number of rows times the width of the net; no buffer knows how many steps there are.
"""

from __future__ import annotations

from typing import Any

from eqprop_lab.kernel.arrays import Array

APART = 16  # numbers between the rows of a matrix that is also read by columns


class Side:
    """States of both phases, and beside each the slope of its cost, so that one product has both.

    whole (2B, H + K) = [s, e]; state (2B, H) and both (2, B, H) are s, errors (2B, K) is e, slopes
    two views of it, (K, B) each.
    """

    def __init__(self, block: Array, hidden: int, classes: int) -> None:
        # The block is contiguous and may be wider: only then is a reshape a view for certain.
        phases = block.reshape(2, len(block) // 2, -1)[:, :, : hidden + classes]
        whole = block[:, : hidden + classes]
        self.whole = whole
        self.state = whole[:, :hidden]
        self.both = phases[:, :, :hidden]
        self.errors = whole[:, hidden:]
        self.slopes = tuple(phase[:, hidden:].T for phase in phases)


class Buffers:
    """Views of a workspace for one batch size B; H units, K classes.

    u, drive, free, other (B, H); pair, then: `Side`; spare (2B, H) and spare_both (2, B, H);
    logits (K, 2B); row (2B,). A phase leaves its state in `free`, or in `pair`.
    """

    def __init__(self, space: Workspace, batch: int) -> None:
        self.batch = batch
        self.u, self.drive, self.free, self.other = (block[:batch] for block in space.single)
        self.pair, self.then = (
            Side(block[: 2 * batch], space.hidden, space.classes) for block in space.double
        )
        self.spare = space.spare[: 2 * batch]
        self.spare_both = self.spare.reshape(2, batch, -1)
        self.logits = space.logits[:, : 2 * batch]
        self.row = space.row[: 2 * batch]


class Workspace:
    """All buffers of a kernel for batches of up to `capacity` samples, and its matrices.

    symmetric: S; effective: W; scaled: W as a phase multiplies with it; product: dL/dW;
    coupling (H + K, H): [W; -beta W_out], scaled likewise. aligned: the rows of states of both
    phases begin at multiples of so many numbers.
    """

    def __init__(
        self, xp: Any, dtype: Any, hidden: int, classes: int, capacity: int, aligned: int = 1
    ) -> None:
        self.hidden, self.classes, self.capacity = hidden, classes, capacity
        self.single = [xp.empty((capacity, hidden), dtype) for _ in range(4)]
        wide = -(-(hidden + classes) // aligned) * aligned
        self.double = [xp.zeros((2 * capacity, wide), dtype) for _ in range(2)]
        self.spare = xp.empty((2 * capacity, hidden), dtype)
        self.logits = xp.empty((classes, 2 * capacity), dtype)
        self.row = xp.empty(2 * capacity, dtype)
        self.symmetric, self.effective, self.scaled = (
            xp.empty((hidden, hidden), dtype) for _ in range(3)
        )
        # Columns whose numbers lie a power of two apart share a few lines of the cache.
        self.product = xp.empty((hidden, hidden + APART), dtype)[:, :hidden]
        self.coupling = xp.empty((hidden + classes, hidden), dtype)
        self.readout = xp.empty((classes, hidden), dtype)
        self.views: Buffers | None = None

    def of(self, batch: int) -> Buffers:
        """The views for a batch size <= capacity."""
        if self.views is None or self.views.batch != batch:
            self.views = Buffers(self, batch)
        return self.views
