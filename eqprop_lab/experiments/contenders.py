"""What takes part in a comparison: a registered model by its arguments, scaled to a number of
parameters.

    widths <- f widths,   f so that the logits depend on as many parameters as asked for

Feedback weights are no part of that number: the logits do not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from eqprop_lab.algorithms.bioplausible import list_algorithms
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.registry import data_facts
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.experiments.sections import SIZES
from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import known_keys, named_arguments, one_of, shown

WIDTHS = ("hidden_dim", "hidden_dims", "hidden_channels", "channels", "width", "growth_rate")
HIDDEN = (64, 32)  # of a learning rule that is given by its name alone
ONE_LAYER = ("eq_align",)


@dataclass(frozen=True)
class Contender:
    """model: a registered name; params: its arguments but for sizes of the data and the seed;
    gradient: as in EqPropTrainer, None: what suits the model.
    """

    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    gradient: str | None = None

    def build(self, seed: int) -> nn.Module:
        """The network of that seed."""
        return model_registry.create(self.model, **self.params, seed=seed)

    def source(self, model: nn.Module) -> str | None:
        """Where its gradients come from; autograd for what neither settles nor has a rule."""
        own = (EquilibriumModel, EquilibriumBlock, LocalRule)
        plain = not any(isinstance(part, own) for part in model.modules())
        return "autograd" if plain and self.gradient is None else self.gradient


def contender(name: str, given: Any, data: DataSet) -> Contender:
    """From a mapping {"model", "params", "gradient"}, or from None for the rule of that name.

    Raises TypeError, ValueError naming what is not known.
    """
    if given is None:
        one_of("models", name, list_algorithms())
        hidden = HIDDEN[:1] if name in ONE_LAYER else HIDDEN
        given = {"model": "BioplausibleModel", "params": {"algorithm": name, "hidden_dims": hidden}}
    if not isinstance(given, Mapping):
        raise TypeError(f"models[{name!r}] must be a mapping or None, got {shown(given)}")
    known_keys(f"models[{name!r}]", given, ("model", "params", "gradient"))
    model = one_of(f"models[{name!r}]['model']", given.get("model"), model_registry.list_models())
    params = dict(given.get("params", {}))
    facts, known = data_facts(data), named_arguments(model_registry.factory(model))
    sizes = {key: facts.get(fact) for key, fact in SIZES.items() if key in known}
    params = {key: value for key, value in sizes.items() if value is not None} | params
    return Contender(model, params, given.get("gradient"))


def size(model: nn.Module) -> int:
    """How many trained numbers the logits depend on."""
    feedback = isinstance(model, LocalRule)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not (feedback and name.rpartition(".")[2].startswith("feedback_"))
    )


def scaled(entry: Contender, parameters: int) -> Contender:
    """The same with widths for which `size` is nearest to `parameters`.

    Raises ValueError where the model has no width, or the smallest one is too large by half.
    """
    key = next((key for key in WIDTHS if key in entry.params), None)
    if key is None:
        raise ValueError(
            f"a {entry.model} of {parameters} parameters needs one of {', '.join(WIDTHS)} among "
            f"its params, got {', '.join(entry.params) or 'none'}"
        )
    base = entry.params[key]
    of = getattr(model_registry.factory(entry.model), "width_unit", None)
    unit = 1 if of is None else int(entry.params[of])

    def at(step: int) -> Contender:
        # in steps of one unit of the widest layer
        widest = base if isinstance(base, int) else max(base)
        widths: Sequence[int] = [base] if isinstance(base, int) else base
        new = [unit * max(1, round(width * step / widest)) for width in widths]
        value = new[0] if isinstance(base, int) else new
        return Contender(entry.model, {**entry.params, key: value}, entry.gradient)

    low, high = 1, 2
    while size(at(high).build(0)) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if size(at(middle).build(0)) <= parameters:
            low = middle
        else:
            high = middle
    best = min((at(low), at(high)), key=lambda c: abs(size(c.build(0)) - parameters))
    if abs(size(best.build(0)) - parameters) > parameters / 2:
        raise ValueError(
            f"parameters must be within reach of {entry.model}, got {parameters}: the nearest is "
            f"{size(best.build(0))}"
        )
    return best
