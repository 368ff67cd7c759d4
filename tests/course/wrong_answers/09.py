"""Answers to the exercises of notebook 09 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqprop_lab.instruments.rounded_products import rounded
from tests.course.answers import right, wrong

Arrays = Sequence[np.ndarray]
Outside = dict[str, np.ndarray]
Function = Callable[[float], float]
Warn = Callable[[str], None]

# --- round_to_bits


def steps(x: Tensor, bits: int) -> Tensor:
    return torch.exp2(torch.floor(torch.log2(x.abs())) - bits)


@wrong("round_to_bits", "uses rounded; do it without")
def of_the_package(x: Tensor, bits: int) -> Tensor:
    return rounded(x, bits)


@wrong("round_to_bits", "uses bfloat16; do it without")
def through_a_dtype(x: Tensor, bits: int) -> Tensor:
    return x.bfloat16().double()


@wrong("round_to_bits", "this cuts off")
def towards_zero(x: Tensor, bits: int) -> Tensor:
    return torch.trunc(x / steps(x, bits)) * steps(x, bits)


@wrong("round_to_bits", "close, but not the same")
def decimal_digits(x: Tensor, bits: int) -> Tensor:
    return torch.round(x, decimals=1)


@wrong("round_to_bits", "the steps have to grow with the number")
def fixed_point(x: Tensor, bits: int) -> Tensor:
    return torch.round(x * 2**bits) / 2**bits


@wrong("round_to_bits", "one bit too few")
def leading_one_counted(x: Tensor, bits: int) -> Tensor:
    return torch.round(x / steps(x, bits - 1)) * steps(x, bits - 1)


@wrong("round_to_bits", "one bit too many")
def exponent_rounded_down_twice(x: Tensor, bits: int) -> Tensor:
    return torch.round(x / steps(x, bits + 1)) * steps(x, bits + 1)


@wrong("round_to_bits", "not finite")
def without_the_absolute_value(x: Tensor, bits: int) -> Tensor:
    step = torch.exp2(torch.floor(torch.log2(x)) - bits)
    return torch.round(x / step) * step


@wrong("round_to_bits", "is e floor(log2|x|)")
def one_exponent_for_all(x: Tensor, bits: int) -> Tensor:
    step = 2.0 ** (math.floor(math.log2(float(x.abs().max()))) - bits)
    return torch.round(x / step) * step


@wrong("round_to_bits", "close, but not the same")
def natural_logarithm(x: Tensor, bits: int) -> Tensor:
    step = torch.exp2(torch.floor(torch.log(x.abs())) - bits)
    return torch.round(x / step) * step


@wrong("round_to_bits", "it prints its answer")
def printed(x: Tensor, bits: int) -> None:
    print(torch.round(x / steps(x, bits)) * steps(x, bits))


@wrong("round_to_bits", "changes its argument 1 in place")
def in_place(x: Tensor, bits: int) -> Tensor:
    step = steps(x, bits)
    return x.div_(step).round_().mul_(step)


@right("round_to_bits")
def by_splitting(x: Tensor, bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 2.0 ** (bits + 1)), exponent - bits - 1)


# --- run_loop


def node_by_node(node: Any, known: Outside) -> None:
    """Put what a node makes into `known`: the operations of the exercise, once more."""
    values = [known[name] for name in node.input]
    how = {part.name: part.i if part.type == 2 else part.f for part in node.attribute}
    if node.op_type == "Gemm":
        a, b, *c = values
        made = (a.T if how.get("transA") else a) @ (b.T if how.get("transB") else b) + sum(c)
    elif node.op_type == "MatMul":
        made = values[0] @ values[1]
    elif node.op_type == "Add":
        made = values[0] + values[1]
    else:
        made = np.tanh(values[0]) if node.op_type == "Tanh" else values[0]
    known[node.output[0]] = made


def one_trip(body: Any, state: Arrays, outside: Outside) -> Outside:
    """Everything that is known at the end of a trip."""
    begun = [np.array(0), np.array(True), *state]
    known = outside | {v.name: array for v, array in zip(body.input, begun, strict=True)}
    for node in body.node:
        node_by_node(node, known)
    return known


def ends(body: Any, known: Outside) -> Arrays:
    return [known[value.name] for value in body.output[1:]]


def run(body: Any, trips: int, state: Arrays, outside: Outside) -> Arrays:
    for _ in range(trips):
        state = ends(body, one_trip(body, state, outside))
    return state


@wrong("run_loop", "one trip too few")
def trips_from_one(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    for _ in range(1, trips):
        state = ends(body, one_trip(body, state, outside))
    return tuple(state)


@wrong("run_loop", "one trip too many")
def first_state_counted(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    return tuple(run(body, trips + 1, state, outside))


@wrong("run_loop", "carry it on")
def begins_anew(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    for _ in range(trips):
        end = ends(body, one_trip(body, state, outside))
    return tuple(end)


@wrong("run_loop", "no trip is made")
def hands_on(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    return tuple(state)


@wrong("run_loop", "a tuple of")
def flag_given_back(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    for _ in range(trips):
        known = one_trip(body, state, outside)
        state = ends(body, known)
    return tuple(known[value.name] for value in body.output)


@wrong("run_loop", "it raised")
def without_the_outside(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    return tuple(run(body, trips, state, {}))


@wrong("run_loop", "it gives nothing back")
def nothing_back(body: Any, trips: int, state: Arrays, outside: Outside) -> None:
    run(body, trips, state, outside)


@wrong("run_loop", "does a trip see the state of the trip before")
def forgets_to_tanh(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    return tuple(np.arctanh(np.clip(s, -0.999, 0.999)) for s in run(body, trips, state, outside))


@wrong("run_loop", "uses InferenceSession; do it without")
def by_a_runtime(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    import onnxruntime

    return tuple(onnxruntime.InferenceSession(body).run(None, {}))


@right("run_loop")
def by_recursion(body: Any, trips: int, state: Arrays, outside: Outside) -> tuple[Any, ...]:
    if trips == 0:
        return tuple(state)
    return by_recursion.function(
        body, trips - 1, ends(body, one_trip(body, state, outside)), outside
    )


# --- with_fallback


@wrong("with_fallback", "it raised RuntimeError: no C++ compiler")
def trusting(compiler: Callable[[Function], Function], function: Function, warn: Warn) -> Function:
    return compiler(function)


@wrong("with_fallback", "the compiler fails at the first call, and the caller gets RuntimeError")
def try_where_it_is_asked_for(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    try:
        return compiler(function)
    except RuntimeError as error:
        warn(str(error))
        return function


@wrong("with_fallback", "it warns at every call")
def never_learns(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    made: list[Function] = []

    def f(x: float) -> float:
        try:
            if not made:
                made.append(function)
                made[0] = compiler(function)
            return made[0](x)
        except RuntimeError as error:
            warn(str(error))
            return function(x)

    return f


@wrong("with_fallback", "it compiles again")
def compiles_at_every_call(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    told: list[str] = []

    def f(x: float) -> float:
        try:
            return compiler(function)(x)
        except RuntimeError as error:
            if not told:
                warn(str(error))
            told.append(str(error))
            return function(x)

    return f


@wrong("with_fallback", "nobody is told")
def silent(compiler: Callable[[Function], Function], function: Function, warn: Warn) -> Function:
    chosen: list[Function] = []

    def f(x: float) -> float:
        if not chosen:
            try:
                chosen.append(compiler(function))
                return chosen[0](x)
            except RuntimeError:
                chosen[:] = [function]
        return chosen[0](x)

    return f


@wrong("with_fallback", "a wrong x is not the compiler's fault")
def blames_the_compiler(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    known: dict[str, Any] = {}

    def f(x: float) -> float:
        if "failed" in known:
            return function(x)
        try:
            known["compiled"] = known.get("compiled") or compiler(function)
            return float(known["compiled"](x))
        except Exception as error:
            known["failed"] = True
            warn(str(error))
            return function(x)

    return f


@wrong("with_fallback", "an error of the function must reach the caller as it is, who got nothing")
def swallows_everything(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    inner = solved(compiler, function, warn)

    def f(x: float) -> float:
        try:
            return inner(x)
        except ValueError:
            return 0.0

    return f


@wrong("with_fallback", "its function is not used in every call")
def compiles_for_nothing(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    def f(x: float) -> float:
        return function(x)

    return f


@wrong("with_fallback", "it gives something else than the function")
def value_of_the_failed_call_is_lost(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    inner = solved(compiler, function, warn)

    def f(x: float) -> float:
        value = inner(x)
        return value if x > 1 else 0.0

    return f


@wrong("with_fallback", "a function of x is needed")
def a_value(compiler: Callable[[Function], Function], function: Function, warn: Warn) -> float:
    return function(1.0)


def solved(compiler: Callable[[Function], Function], function: Function, warn: Warn) -> Function:
    class Fallback:
        chosen: Function | None = None

        def __call__(self, x: float) -> float:
            if self.chosen is not None:
                return self.chosen(x)
            try:
                made = compiler(function)
                value = made(x)
            except RuntimeError as error:
                made, value = function, function(x)
                warn(str(error))
            self.chosen = made
            return value

    return Fallback()


@right("with_fallback")
def as_an_object(
    compiler: Callable[[Function], Function], function: Function, warn: Warn
) -> Function:
    function_or_compiled = solved(compiler, function, warn)
    return function_or_compiled
