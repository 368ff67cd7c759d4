"""NumPy in the clothes of CuPy: fused kernels, cuBLAS by pointers, and graphs that replay a tape.

While a stream records, reading a number on the host raises, and so do CuPy's own products, as on a
GPU. A launch computes everything anew into the same memory: a number that had gone through the host
would keep its old value.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np

TAPE: list[list[Callable[[], object]]] = []  # the tape that is running, if any
REFUSED = (np.dot, np.einsum, np.stack, np.concatenate, np.linalg.qr, np.linalg.eigh)


def _on_host(name: str) -> Callable[..., Any]:
    def read(self: np.ndarray, *args: Any) -> Any:
        if TAPE:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: a number was read")
        return getattr(np.ndarray, name)(self, *args)

    return read


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


def run(call: Callable[[], object]) -> None:
    call()
    if TAPE:
        TAPE[0].append(call)


def kept(call: Callable[[], Any]) -> Any:
    """The result of a call, in an array that a launch writes again."""
    result = call()
    if not isinstance(result, np.ndarray | np.generic):
        return tuple(map(wrap, result)) if isinstance(result, tuple) else result
    array = np.array(result) if TAPE or np.ndim(result) == 0 else result
    if TAPE:
        TAPE[0].append(lambda: array.__setitem__(..., call()))
    return wrap(array)


def wrap(value: Any) -> Any:
    return np.asarray(value).view(Array) if isinstance(value, np.ndarray | np.generic) else value


class Array(np.ndarray):
    """cupy.ndarray."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        if TAPE and ufunc is np.matmul:
            raise NotImplementedError("calling cuBLAS during stream capture is unsupported")
        call = getattr(ufunc, method)
        given = plain(inputs)
        if out is None or out[0] is None:
            return kept(lambda: call(*given, **options))
        target = plain(out)
        run(lambda: call(*given, out=target, **options))
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if TAPE and func in REFUSED:
            raise NotImplementedError(f"{func.__name__} during stream capture is unsupported")
        given, named = plain(args), {name: plain(value) for name, value in kwargs.items()}
        if func is np.copyto or named.get("out") is not None:
            run(lambda: func(*given, **named))
            return kwargs.get("out")
        return kept(lambda: func(*given, **named))

    def __setitem__(self, place: Any, value: Any) -> None:
        here, given, where = plain(self), plain(value), plain(place)
        run(lambda: here.__setitem__(where, given))

    def copy(self, order: Any = "C") -> Any:
        here = plain(self)
        return kept(lambda: here.copy())

    def reshape(self, *shape: Any, **options: Any) -> Any:
        view = super().reshape(*shape, **options)
        assert not TAPE or np.shares_memory(view, self), "a copy that no launch repeats"
        return view

    __float__, __bool__, __int__ = _on_host("__float__"), _on_host("__bool__"), _on_host("__int__")
    tolist, item = _on_host("tolist"), _on_host("item")


def elementwise(takes: str, gives: str, body: str, name: str) -> Callable[..., None]:
    """Runs the statements of a body as Python, which is what they happen to be too."""
    names = [part.split()[-1] for part in f"{takes}, {gives}".split(", ")]

    def kernel(*operands: Any, size: int | None = None) -> None:
        given = dict(zip(names, plain(operands), strict=True))

        def call() -> None:
            if name == "eqprop_slopes":
                slopes(**given)
                return
            if name == "eqprop_cost":
                cost(**given)
                return
            if name.startswith("eqprop_gather"):
                given["out"][...] = [given[number] for number in names[:-1]]
                return
            for statement in body.split("; "):
                target, kind, expression = statement.split(" ", 2)
                value = eval(
                    expression, {f: getattr(np, f) for f in ("tanh", "exp", "sqrt")}, given
                )
                given[target][...] = value if kind == "=" else given[target] - value

        run(call)

    return kernel


def slopes(
    z: Any, bias: Any, t: Any, total: Any, classes: int, batch: int, columns: int, soft: bool,
    summed: bool, e: Any,
) -> None:  # fmt: skip
    """What the kernel of that name computes, sample by sample."""
    assert z.shape == (classes, columns) and e.shape == (columns, classes)
    for column in range(columns):
        b, sample = z[:, column] + bias, column % batch
        if soft:
            b = np.exp(b) / np.exp(b).sum() * (total[sample] if summed else 1)
        e[column] = (1 if column < batch else -1) * (b - t[:, sample])


def cost(
    t: Any, total: Any, classes: int, batch: int, soft: bool, summed: bool, z: Any, loss: Any
) -> None:
    """Likewise, by the formulas."""
    assert z.shape == (classes, batch) and loss.shape == (batch,)
    for sample in range(batch):
        b, aim = z[:, sample].copy(), t[:, sample]
        if soft:
            p = np.exp(b) / np.exp(b).sum()
            loss[sample] = -(aim * np.log(p)).sum()
            z[:, sample] = p * (total[sample] if summed else 1) - aim
        else:
            loss[sample], z[:, sample] = ((b - aim) ** 2).sum() / 2, b - aim


def reduction(takes: str, gives: str, each: str, *rest: str) -> Callable[..., Any]:
    """A sum of products, or the largest ratio."""

    def kernel(x: Any, y: Any, axis: int | None = None) -> Any:
        one, other = plain(x), plain(y)
        if rest[-1] == "eqprop_largest":
            return kept(lambda: (one / other).max())
        assert each == "x * y" and rest == ("a + b", "out = a", "0", "eqprop_inner")
        return kept(lambda: (one * other).sum(axis))

    return kernel


class Cublas:
    """The library by its C interface, on memory of the host."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("cublasSgemm_v2", "cublasDgemm_v2"):
            return lambda *args: self.gemm(
                ctypes.c_float if "S" in name else ctypes.c_double, *args
            )

        def accept(*_: Any) -> int:
            self.calls.append(name)
            return 0

        return accept

    def gemm(self, kind: Any, _: Any, *args: Any) -> int:
        """C (m, n) <- op(A) op(B), column by column."""
        turn_a, turn_b, m, n, k, one, a, step_a, b, step_b, zero, c, step_c = args
        assert one._obj.value == 1 and zero._obj.value == 0

        def matrix(place: Any, rows: int, columns: int, step: int) -> np.ndarray:
            assert step >= rows
            count = step * (columns - 1) + rows
            flat = np.ctypeslib.as_array((kind * count).from_address(place.value))
            size = flat.itemsize
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, size * step))

        def operand(turned: int, place: Any, rows: int, columns: int, step: int) -> np.ndarray:
            held = matrix(place, *((columns, rows) if turned else (rows, columns)), step)
            return held.T if turned else held

        def call() -> None:
            found = operand(turn_a, a, m, k, step_a) @ operand(turn_b, b, k, n, step_b)
            matrix(c, m, n, step_c)[...] = found

        run(call)
        return 0


class Stream:
    """cupy.cuda.Stream."""

    ptr = 0

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = id(self) if non_blocking else 0

    def __enter__(self) -> None:
        CURRENT.append(self)

    def __exit__(self, *_: Any) -> None:
        CURRENT.pop()

    def synchronize(self) -> None:
        assert not TAPE

    def begin_capture(self, mode: int) -> None:
        assert CURRENT[-1] is self and self.ptr
        TAPE.append([])

    def end_capture(self) -> Any:
        tape = TAPE.pop()
        return SimpleNamespace(launch=lambda: [call() for call in tape])


CURRENT = [Stream()]


def fake_cupy() -> Any:
    """A module; `made` names its kernels."""
    made: list[str] = []

    def compiled(takes: str, gives: str, body: str, name: str) -> Callable[..., None]:
        made.append(name)
        return elementwise(takes, gives, body, name)

    cuda = SimpleNamespace(
        Stream=Stream,
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: nullcontext(),
        get_current_stream=lambda: CURRENT[-1],
        runtime=SimpleNamespace(streamCaptureModeRelaxed=2),
    )
    own = {
        "__name__": "fake_cupy", "ndarray": Array, "cuda": cuda, "made": made,
        "ElementwiseKernel": compiled, "ReductionKernel": reduction,
        "asnumpy": lambda array: np.array(_checked(array)),
    }  # fmt: skip
    for name in ("empty", "zeros", "asarray", "arange", "ascontiguousarray"):
        own[name] = _wrapped(getattr(np, name))
    return Module(own)


def _checked(array: np.ndarray) -> np.ndarray:
    assert not TAPE
    return plain(array)


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: wrap(function(*args, **options))


class Module:
    """NumPy where it has nothing of its own."""

    def __init__(self, own: dict[str, Any]) -> None:
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
