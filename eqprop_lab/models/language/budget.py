"""Language models of a given number of parameters, so that a comparison is one of equal size.

    count(d, m) = sum_(i, j <= 2) C_ij (d/heads)^i m^j,    d = hidden_dim, m = inner_dim

(embed_dim and hidden_dim of models of a window.) Nine small models determine C exactly, whatever
the class. For every d the m that meets a budget has a closed form; of all pairs the one with the
least 5 |relative error| + |log((m/d) / (m_0/d_0))| is taken, so that the model keeps the
proportions (d_0, m_0) it has at the arguments given.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyval, polyval2d
from torch import nn

from eqprop_lab.models.language.attention import head_width
from eqprop_lab.models.language.registry import EQPROP_LM_REGISTRY, list_eqprop_lm_variants
from eqprop_lab.models.registry import ModelRegistry, model_registry
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import LARGEST_INT, integer, one_of, positive_int, real

TOLERANCE = 0.02  # of the number of parameters
EXACTNESS = 5.0  # weight of the relative error beside the proportions
LAYERS = 4  # where nothing is said
BENT = 64  # no m/d is looked at that is smaller by more
SMALL = (1, 2, 3)


def create_eqprop_lm(
    variant: str,
    vocab_size: int,
    hidden_dim: int = 256,
    num_layers: int | None = None,
    scale: float = 1.0,
    **fixed: Any,
) -> nn.Module:
    """A variant with `scale` times the parameters it has at these arguments, within 2 %.

    With scale 1 it is the model of these arguments itself. num_layers: None for 4, or for the one
    that `recurrent_core` and `looped_mlp` have: they take no other. fixed: further arguments of the
    class; of them inner_dim and embed_dim are scaled with hidden_dim.
    Raises: TypeError, ValueError naming the argument; ValueError for a budget that cannot be met,
    with the smallest that can.
    """
    one_of("variant", variant, list_eqprop_lm_variants())
    given = {
        "vocab_size": positive_int("vocab_size", vocab_size),
        "hidden_dim": positive_int("hidden_dim", hidden_dim),
    }
    given |= _layers(variant, num_layers)
    factor = real("scale", scale, above=0.0)
    widths = _Widths(EQPROP_LM_REGISTRY, variant, given | fixed)
    target = round(min(factor * float(widths.count(*widths.start)), LARGEST_INT + 1.0))
    integer("scale x parameters", target, at_least=0)
    return widths.build(*widths.meeting(target, "scale must give"))


def _layers(variant: str, num_layers: int | None) -> dict[str, int]:
    """The argument of that name, where the variant has one. Raises TypeError, ValueError."""
    layers = None if num_layers is None else positive_int("num_layers", num_layers)
    if "num_layers" in (EQPROP_LM_REGISTRY.parameters(variant) or {}):
        return {"num_layers": LAYERS if layers is None else layers}
    if layers not in (None, 1):
        raise ValueError(
            f"num_layers must be 1, or left out: {variant} has one layer and takes no number of "
            f"them; got {layers}"
        )
    return {}


def within_budget(name: str, parameters: int, **fixed: Any) -> nn.Module:
    """A language model of so many parameters, within 2 %.

    Args: name of a variant, or of a class of the `model_registry`, as the twins are; fixed:
        arguments of the class. Its widths are searched; one that is given is held.
    Raises: as `create_eqprop_lm`.
    """
    variants = list_eqprop_lm_variants()
    if not isinstance(name, str) or name not in model_registry:
        models = {known: model_registry.parameters(known) for known in model_registry.list_models()}
        fit = [known for known, arguments in models.items() if _sized(arguments or ())]
        one_of("name", name, [*variants, *fit])
    target = positive_int("parameters", parameters)
    widths = _Widths(EQPROP_LM_REGISTRY if name in variants else model_registry, name, fixed)
    return widths.build(*widths.meeting(target, "parameters must be", held=fixed))


def _names(arguments: Collection[str]) -> tuple[str, str]:
    """The two widths of a model that takes these arguments, if it has any."""
    return ("embed_dim", "hidden_dim") if "embed_dim" in arguments else ("hidden_dim", "inner_dim")


def _sized(arguments: Collection[str]) -> bool:
    """Whether a model that takes these arguments has two widths to search."""
    return all(name in arguments for name in _names(arguments))


class _Widths:
    """The two widths of a model that are free, and how many parameters they give.

    start: (d_0, m_0), the widths at the arguments given. step: d is a multiple of it.
    Raises TypeError for a model that has no such arguments.
    """

    def __init__(self, registry: ModelRegistry, name: str, given: dict[str, Any]) -> None:
        self.registry, self.name = registry, name
        registry.check(name, given)
        defaults = {key: p.default for key, p in (registry.parameters(name) or {}).items()}
        self.names = _names(defaults)
        if not _sized(defaults):
            raise TypeError(
                f"{name} must take hidden_dim and inner_dim, or embed_dim and hidden_dim, to be "
                f"given a size; it takes {', '.join(defaults) or 'anything'}"
            )
        full = defaults | given
        outer, inner = positive_int(self.names[0], full[self.names[0]]), full[self.names[1]]
        self.step = positive_int("num_heads", full.get("num_heads", 1))
        head_width(outer, self.step)
        if inner is None:
            inner = round(getattr(registry.factory(name), "inner_ratio", 4.0) * outer)
        self.start = outer, positive_int(self.names[1], inner)
        self.rest = {key: value for key, value in given.items() if key not in self.names}
        with seeded(0):
            counts = [[_size(self._model(self.step * k, m)) for m in SMALL] for k in SMALL]
        basis = np.linalg.inv(np.vander(SMALL, increasing=True))
        self.coefficients = basis @ counts @ basis.T

    def _model(self, outer: int, inner: int) -> nn.Module:
        widths = dict(zip(self.names, (outer, inner), strict=True))
        return self.registry.create(self.name, **self.rest, **widths)

    def build(self, outer: int, inner: int) -> nn.Module:
        """The model of these widths. Raises TypeError if it is no such polynomial."""
        model = self._model(outer, inner)
        if _size(model) != (foreseen := int(self.count(outer, inner))):
            raise TypeError(
                f"{self.name} must have a number of parameters that is a polynomial of degree 2 in "
                f"{' and '.join(self.names)}: {foreseen} foreseen, {_size(model)} found"
            )
        return model

    def count(self, outer: Any, inner: Any) -> Any:
        """The number of parameters, elementwise."""
        return np.rint(polyval2d(np.asarray(outer) / self.step, inner, self.coefficients))

    def meeting(self, target: int, said: str, held: Container[str] = ()) -> tuple[int, int]:
        """The widths (d, m) that meet a budget best. Raises ValueError where none does."""
        if all(name in held for name in self.names):
            raise ValueError(f"{' and '.join(self.names)} must not both be given with a budget")
        outer = self._outers(target, held)
        outer, inner = np.broadcast_arrays(outer, self._inners(outer, target, held))
        counts = self.count(outer, inner)
        error = np.abs(counts - target) / max(target, 1)
        if error.min() > TOLERANCE:
            above = np.where(counts < target, np.inf, counts)
            least, best = above.min(), above.argmin()
            names = zip(self.names, (outer.flat[best], inner.flat[best]), strict=True)
            raise ValueError(
                f"{said} a number of parameters that a {self.name} can have, within 2 %, got "
                f"{target}; the smallest from there on is {least:.0f} "
                f"({', '.join(f'{name}={width}' for name, width in names)})"
            )
        bent = np.abs(np.log(inner / outer * self.start[0] / self.start[1]))
        cost = np.where(error > TOLERANCE, np.inf, EXACTNESS * error + bent)
        best = cost.argmin()
        return int(outer.flat[best]), int(inner.flat[best])

    def _outers(self, target: int, held: Container[str]) -> np.ndarray:
        """Every d worth a look: up to where the budget is spent on it, m being small."""
        if self.names[0] in held:
            return np.array([self.start[0]])
        most, (d, m) = 1, self.start
        fixed = self.names[1] in held
        while self.count(wide := most * self.step, m if fixed else wide * m / d / BENT) < target:
            most *= 2
        return self.step * np.arange(1, most + 1)

    def _inners(self, outer: np.ndarray, target: int, held: Container[str]) -> np.ndarray:
        """The two m around the root of count(d, m) = target, for every d."""
        if self.names[1] in held:
            return np.array([[self.start[1]]])
        a, b, c = polyval(outer / self.step, self.coefficients)
        room = np.maximum(target - a, 0)
        root = 2 * room / (b + np.sqrt(b * b + 4 * np.maximum(c, 0) * room))
        return np.maximum(np.stack([np.floor(root), np.ceil(root)]), 1).astype(int)


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
