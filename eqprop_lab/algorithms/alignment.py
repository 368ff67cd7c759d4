"""`eq_align` under its name: EquilibriumAlignment with `hidden_dims` as the other rules have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eqprop_lab.algorithms.registry import register_algorithm
from eqprop_lab.models.equilibrium_alignment import EquilibriumAlignment
from eqprop_lab.validation import repeated


@register_algorithm("eq_align")
class OneLayerAlignment(EquilibriumAlignment):
    """The native model; hidden_dims must name one layer, which is all that settles."""

    def __init__(
        self, input_dim: int, hidden_dims: int | Sequence[int], output_dim: int, **options: Any
    ) -> None:
        (hidden_dim,) = repeated("hidden_dims", hidden_dims, 1, "layer of eq_align")
        super().__init__(input_dim, hidden_dim, output_dim, **options)
