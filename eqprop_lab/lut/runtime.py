"""What may change without new weights: how tables are read, what training adds to them.

    runtime:
      temperature: 0.5              table = sigmoid(logits / temperature); hard tables do not change
      eval_mode: threshold          or expectation (tables as they are), sampling (bits drawn)
      regularizers: {entropy: {weight: 0.001}}

Every key is checked and acts; there are no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from eqprop_lab.lut.errors import as_value_error
from eqprop_lab.lut.nodes.base import LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import a_seed, arguments, known_keys, one_of, real, shown, switch

EVAL_MODES = ("threshold", "expectation", "sampling")
FORWARD_MODES = ("soft", "hard", "gumbel_soft", "gumbel_hard")
STABILISATIONS = ("none", "layerwise", "batchwise")
FILLED_IN = ("nodes", "generator", "fan_in", "fan_out")  # arguments that no configuration gives
INIT = "init_"


@dataclass(frozen=True)
class Runtime:
    """Runtime parameters, checked.

    temperature > 0. eval_mode: what `eval()` computes: `threshold` truth tables, `expectation` the
        relaxed tables, `sampling` outputs drawn from the relaxed tables, from `sampling_seed`
        (None: the model's seed).
    forward_mode: what training computes: `soft` the relaxation, `hard` truth tables with the
        gradient of the relaxation, `gumbel_soft` and `gumbel_hard` the same with logistic noise.
    flip_probability, eval_flip_probability: of every input bit of every layer, in training and in
        evaluation; gradients pass as if nothing was flipped. dropout: of outputs, to 1/2, in
        training.
    grad_stabilization: the gradient at the output of every layer is scaled to the root mean square
        grad_target_std, over the whole of it (`layerwise`) or for each sample (`batchwise`), after
        its mean is taken off (grad_subtract_mean); grad_epsilon is added to the mean square.
    output_tau: logits are sums over outputs divided by it; None: sqrt(outputs a class).
    head_padding: True allows a last layer that is no multiple of the classes: some classes have one
        output less.
    init_fn, init_kwargs: how parameters begin, None as the nodes say; init_std is short for
        init_kwargs["std"], and so on. They act when parameters are drawn.
    regularizers: name -> (weight, arguments).
    """

    temperature: float = 1.0
    eval_mode: str = "threshold"
    forward_mode: str = "soft"
    flip_probability: float = 0.0
    eval_flip_probability: float = 0.0
    dropout: float = 0.0
    grad_stabilization: str = "none"
    grad_target_std: float = 1.0
    grad_subtract_mean: bool = False
    grad_epsilon: float = 1e-8
    output_tau: float | None = None
    head_padding: bool = False
    sampling_seed: int | None = None
    init_fn: str | None = None
    init_kwargs: Mapping[str, Any] = field(default_factory=dict)
    regularizers: Mapping[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)


def _optional(check: Callable[..., Any], **bounds: Any) -> Callable[[str, object], Any]:
    return lambda name, value: None if value is None else check(name, value, **bounds)


def _probability(name: str, value: object) -> float:
    return real(name, value, at_least=0.0, at_most=1.0)


def _positive(name: str, value: object) -> float:
    return real(name, value, above=0.0)


def _choice(options: tuple[str, ...]) -> Callable[[str, object], str]:
    return lambda name, value: one_of(name, value, options)


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping of names to values, got {shown(value)}")
    return dict(value)


def _initializer(name: str, value: object) -> str:
    REGISTRY.get("initializer", value, name)  # type: ignore[arg-type]
    return str(value)


def _regularizers(name: str, value: object) -> dict[str, tuple[float, dict[str, Any]]]:
    """{name: weight} or {name: {weight: w, argument: value}} -> {name: (weight, arguments)}."""
    found = {}
    for key, entry in _mapping(name, value).items():
        penalty = REGISTRY.get("regularizer", key, name)
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        if "weight" not in options:
            raise ValueError(f"{name}.{key} must have a weight, got {shown(entry)}")
        weight = real(f"{name}.{key}.weight", options.pop("weight"), at_least=0.0)
        taken = arguments(penalty)
        if taken is not None:
            known_keys(f"{name}.{key}", options, ["weight", *list(taken)[1:]])
        found[key] = (weight, options)
    return found


CHECKS: dict[str, Callable[[str, object], Any]] = {
    "temperature": _positive,
    "eval_mode": _choice(EVAL_MODES),
    "forward_mode": _choice(FORWARD_MODES),
    "flip_probability": _probability,
    "eval_flip_probability": _probability,
    "dropout": _probability,
    "grad_stabilization": _choice(STABILISATIONS),
    "grad_target_std": _positive,
    "grad_subtract_mean": switch,
    "grad_epsilon": _positive,
    "output_tau": _optional(real, above=0.0),
    "head_padding": switch,
    "sampling_seed": _optional(a_seed),
    "init_fn": lambda name, value: None if value is None else _initializer(name, value),
    "init_kwargs": _mapping,
    "regularizers": _regularizers,
}
assert CHECKS.keys() == {entry.name for entry in fields(Runtime)}


def drawn(nodes: LUTNodes, name: str, given: Mapping[str, Any], generator: torch.Generator) -> None:
    """Parameters of `nodes` by the initializer of that name; fans are filled in."""
    function = REGISTRY.get("initializer", name)
    fans = {"fan_in": float(nodes.inputs), "fan_out": nodes.fan_out}
    taken = arguments(function)
    filled = {key: value for key, value in fans.items() if taken is None or key in taken}
    function(nodes, generator, **filled, **given)


def is_init(key: str) -> bool:
    """Whether a key of `runtime` says how parameters begin."""
    return key.startswith(INIT)


def read_runtime(given: object) -> Runtime:
    """The runtime section of a configuration.

    Raises ValueError naming the key.
    """
    with as_value_error():
        section = _mapping("runtime", given)
        values: dict[str, Any] = {}
        short = {}
        for key, value in section.items():
            if is_init(key) and key not in CHECKS:
                short[key.removeprefix(INIT)] = value
                continue
            known_keys("runtime", [key], [*CHECKS, f"{INIT}<argument of init_fn>"])
            values[key] = CHECKS[key](key, value)
        values["init_kwargs"] = _init_arguments(values, short)
        _check_together(values)
        return Runtime(**values)


def _init_arguments(values: Mapping[str, Any], short: Mapping[str, Any]) -> dict[str, Any]:
    """init_kwargs with the short forms, known to init_fn. Raises ValueError."""
    given = dict(values.get("init_kwargs", {}))
    if twice := sorted(given.keys() & short.keys()):
        raise ValueError(f"init_{twice[0]} is given twice, in init_kwargs too")
    given |= short
    name = values.get("init_fn")
    if name is None:
        if given:
            raise ValueError(
                f"init_{next(iter(given))} needs an init_fn, one of "
                f"{', '.join(REGISTRY.names('initializer'))}"
            )
        return given
    taken = arguments(REGISTRY.get("initializer", name))
    if taken is not None:
        options = [key for key in taken if key not in FILLED_IN]
        for key in given:
            known_keys(f"init_kwargs of {name}", [key], options)
    return given


def _check_together(values: Mapping[str, Any]) -> None:
    mode = values.get("forward_mode", "soft")
    if values.get("dropout", 0.0) > 0 and mode != "soft":
        raise ValueError(
            f"dropout must be 0 with forward_mode {mode!r}: it puts outputs to 1/2, which is no bit"
        )
