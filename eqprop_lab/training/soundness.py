"""Whether the content of a checkpoint is sound and fits a trainer: looked at before anything of it
is loaded.

Fused optimisers take shapes on trust: a state that is too small would let them write past its end.
So names, shapes, types and finiteness of everything are compared with what is here. All functions
raise ValueError saying what is wrong.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Optimisers whose state is one number a parameter; the fused kernels are among them.
ELEMENTWISE = (
    "Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop",
    "SGD",
)  # fmt: skip
NEEDED = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg")
AT_LEAST_0 = (
    "lr", "weight_decay", "eps", "momentum", "dampening", "initial_lr", "max_lr", "min_lr",
)  # fmt: skip
# what schedules add to a group
SCHEDULED = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
VOCABULARY = "_extra_state"  # of a language model
PLAN = {"first", "epochs", "batches", "inside"}


def kind(value: object) -> str:
    """Type and shape of a tensor, or the name of another type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def check_parameters_fit(model: nn.Module, state: Any, what: str = "it") -> None:
    """A state_dict for this model: the same names, shapes and types, and all of it finite."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{what} has a {type(state).__name__} in the place of parameters")
    own = model.state_dict()
    parameters = dict(model.named_parameters())
    for names, verb in (
        (own.keys() - state.keys(), "lacks"),
        (state.keys() - own.keys(), "has, beyond the model,"),
    ):
        if names:
            raise ValueError(f"{what} {verb} {', '.join(sorted(names))}")
    for name, tensor in own.items():
        wanted, found = kind(tensor), kind(state[name])
        if name == VOCABULARY and isinstance(state[name], Tensor):
            continue  # of any length; the model looks at it itself
        if wanted != found and not _fewer_vectors(name, tensor, state[name]):
            raise ValueError(f"its {name} is {found}, the model's is {wanted}")
        # A buffer may hold infinities on purpose (a mask).
        if isinstance(tensor, Tensor) and not _finite(state[name], infinite=name not in parameters):
            raise ValueError(f"its {name} is not finite")


def _fewer_vectors(name: str, own: Tensor, saved: object) -> bool:
    """Whether a bounded weight has a block of fewer vectors, of an earlier version: it is taken."""
    if not name.endswith(".basis") or not isinstance(saved, Tensor) or saved.ndim != own.ndim:
        return False
    differ = [a > b > 0 for a, b in zip(own.shape, saved.shape, strict=True) if a != b]
    return saved.dtype == own.dtype and differ == [True]


def _finite(tensor: Tensor, infinite: bool = False) -> bool:
    return not bool(torch.isnan(tensor).any()) if infinite else bool(torch.isfinite(tensor).all())


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Any) -> dict[str, Any]:
    """The saved state_dict of such an optimiser, every tensor laid out as its parameter is."""
    mine = optimizer.state_dict()["param_groups"]
    theirs = saved["param_groups"]
    if [group["params"] for group in mine] != [group["params"] for group in theirs]:
        raise ValueError("its optimiser has other parameter groups")
    for number, (own, group) in enumerate(zip(mine, theirs, strict=True)):
        _check_group(own, group, f"of parameter group {number} of its optimiser")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    name = type(optimizer).__name__
    states = {}
    for index, entry in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(
                f"its optimiser has a state for parameter {index!r} of {len(parameters)}"
            )
        if missing := NEEDED.get(name, set()) - entry.keys():
            raise ValueError(
                f"its optimiser has no {', '.join(sorted(missing))} for parameter {index}"
            )
        states[index] = {
            key: _slot(name, key, value, parameters[index], index) for key, value in entry.items()
        }
    return {**saved, "state": states}


def _check_group(own: Mapping[str, Any], saved: Mapping[str, Any], where: str) -> None:
    if missing := own.keys() - saved.keys() - SCHEDULED:
        raise ValueError(f"there is no {', '.join(sorted(missing))} {where}")
    if extra := saved.keys() - own.keys() - SCHEDULED:
        raise ValueError(f"there is a strange {', '.join(sorted(extra))} {where}")
    for key, value in saved.items():
        if key == "params":
            continue
        negative = key in AT_LEAST_0 and isinstance(value, int | float) and value < 0
        if negative or not _alike(own.get(key, 0.0), value):
            raise ValueError(f"{key} is {value!r} {where}, here it is {own.get(key)!r}")
        if key == "betas" and not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"betas are {value!r} {where}, they must be at least 0 and below 1")


def _alike(own: object, value: object) -> bool:
    """Values of one kind: finite numbers, switches, equally long tuples of such, or the same."""
    if isinstance(own, bool) or own is None:
        return value is None or isinstance(value, bool)
    if isinstance(own, int | float):
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    if isinstance(own, tuple | list):
        return (
            isinstance(value, tuple | list)
            and len(own) == len(value)
            and all(map(_alike, own, value))
        )
    if isinstance(own, Tensor):
        return isinstance(value, Tensor) and kind(own) == kind(value) and _finite(value)
    return own == value


def _slot(optimizer: str, key: str, value: Any, parameter: Tensor, index: int) -> Any:
    """One entry of the state of a parameter, laid out as the parameter is."""
    where = f"its optimiser's {key} of parameter {index} is"
    elementwise = optimizer in ELEMENTWISE
    if not isinstance(value, Tensor):
        wanted = (
            elementwise and key in (*MOMENTS, "step") and not (value is None and optimizer == "SGD")
        )
        if wanted or not (
            value is None or (isinstance(value, int | float) and math.isfinite(value))
        ):
            raise ValueError(f"{where} {value!r}")
        return value
    if elementwise:
        # Some keep a number for all of a parameter (a step, a rate); a moment has one for each of
        # its entries.
        shapes = (
            [()] if key == "step" else [tuple(parameter.shape), *([] if key in MOMENTS else [()])]
        )
        dense = value.layout == torch.strided and value.is_floating_point()
        if not dense or tuple(value.shape) not in shapes:
            raise ValueError(f"{where} {kind(value)}, the parameter is {kind(parameter)}")
    if value.is_floating_point() and not _finite(value):
        raise ValueError(f"{where} not finite")
    if elementwise and (key == "step" or key.endswith("_sq")) and bool((value < 0).any()):
        raise ValueError(f"{where} negative")
    if value.shape != parameter.shape:
        return value
    # Kernels pair numbers by their place in memory: strides of a file's own choice would lead past
    # the end.
    return torch.empty_like(parameter, device="cpu", dtype=value.dtype).copy_(value).detach()


def check_history(history: Any) -> int:
    """The number of epochs of curves as a trainer writes them."""
    curves: list[Any] = list(history.values()) if isinstance(history, Mapping) else [None]
    if (
        not all(isinstance(curve, list) for curve in curves)
        or len({len(curve) for curve in curves}) > 1
    ):
        raise ValueError(
            "its history or plan is not what a trainer writes: curves of unequal length"
        )
    epochs = list(history.get("epoch", []))
    if epochs != list(range(1, len(epochs) + 1)) or (curves and len(curves[0]) != len(epochs)):
        raise ValueError(
            "its history or plan is not what a trainer writes: epochs that do not count from 1"
        )
    if not all(
        entry is None or isinstance(entry, str | int | float) for curve in curves for entry in curve
    ):
        raise ValueError(
            "its history or plan is not what a trainer writes: entries that are no numbers"
        )
    return len(epochs)


def check_plan(plan: Any, done: int) -> None:
    """A plan (see `state`) that may have led to as many epochs as are done; None is one, too."""
    if plan is None:
        return
    good = isinstance(plan, Mapping) and plan.keys() == PLAN
    if good:
        counts = [plan["first"], plan["epochs"], 1 if plan["batches"] is None else plan["batches"]]
        good = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in counts)
        good = good and isinstance(plan["inside"], int) and plan["inside"] >= 0
        good = good and plan["first"] - 1 <= done <= plan["first"] - 1 + plan["epochs"]
    if not good:
        raise ValueError(
            f"its history or plan is not what a trainer writes: {plan!r:.200} after {done} epochs"
        )


def check_schedule(own: Mapping[str, Any], saved: Any, steps: int) -> None:
    """The state of a schedule like the fresh one, after as many steps."""
    if not isinstance(saved, Mapping) or own.keys() != saved.keys():
        raise ValueError(f"the state of its schedule is not one of {', '.join(own)}")
    for key, value in saved.items():
        if not _alike(own[key], value) or (key in ("total_steps", "T_max") and own[key] != value):
            raise ValueError(f"its schedule has {key} {value!r}, here it is {own[key]!r}")
    if saved["last_epoch"] != steps:
        raise ValueError(
            f"its schedule has taken {saved['last_epoch']} steps, its epochs have {steps}"
        )


def check_generators(rng: Any) -> None:
    """States that the global generators would take, tried on others."""
    name, keys, *rest = rng["numpy"]
    try:
        torch.Generator(device="cpu").set_state(rng["torch"])
        np.random.RandomState().set_state((name, keys.numpy().astype(np.uint32), *rest))
        random.Random().setstate(rng["python"])
    except (
        AttributeError,
        LookupError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(f"the state of its generators is none: {error}") from error
