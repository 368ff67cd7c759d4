"""What a kernel asks of its arrays beside NumPy's functions: products, sums of squares, slopes.

Operations    any module with NumPy's interface
Fused         CuPy: one elementwise kernel where that takes several, products by cuBLAS, numbers
              that stay on the device: nothing waits, so that a CUDA graph can record all of it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eqprop_lab.kernel.arrays import Array
from eqprop_lab.kernel.blas import Blas
from eqprop_lab.kernel.costs import Targets, into_slope, values
from eqprop_lab.kernel.workspace import Buffers

# One thread a sample and phase: e <- sign (total softmax(z + bias) - t), or sign (z + bias - t).
# A NaN among the logits reaches every e of its sample, through the sum.
SLOPES = """
    const long long sample = i % batch;
    const T sign = i < batch ? 1 : -1;
    T top = 0, scale = 1;
    if (soft) {
        top = z[i] + bias[0];
        for (long long k = 1; k < classes; ++k) {
            const T b = z[k * columns + i] + bias[k];
            top = b > top ? b : top;
        }
        T sum = 0;
        for (long long k = 0; k < classes; ++k) sum += exp(z[k * columns + i] + bias[k] - top);
        scale = (summed ? total[sample] : T(1)) / sum;
    }
    for (long long k = 0; k < classes; ++k) {
        const T b = z[k * columns + i] + bias[k];
        e[i * classes + k] = sign * ((soft ? exp(b - top) * scale : b) - t[k * batch + sample]);
    }
"""
SLOPES_TAKES = (
    "raw T z, raw T bias, raw T t, raw T total, int64 classes, int64 batch, int64 columns, "
    "bool soft, bool summed"
)
# One thread a sample: its cost, and z <- total softmax(z) - t, or z - t.
COST = """
    T top = z[i], sum = 0, value = 0;
    if (soft) {
        for (long long k = 1; k < classes; ++k) {
            const T b = z[k * batch + i];
            top = b > top ? b : top;
        }
        for (long long k = 0; k < classes; ++k) sum += exp(z[k * batch + i] - top);
    }
    const T scale = soft ? (summed ? total[i] : T(1)) / sum : T(1);
    const T log_sum = soft ? log(sum) : T(0);
    for (long long k = 0; k < classes; ++k) {
        const T b = z[k * batch + i], aim = t[k * batch + i], off = b - aim;
        value += soft ? aim * (log_sum - (b - top)) : off * off / 2;
        z[k * batch + i] = soft ? exp(b - top) * scale - aim : off;
    }
    loss[i] = value;
"""
COST_TAKES = "raw T t, raw T total, int64 classes, int64 batch, bool soft, bool summed"
# The larger one; what is no number is kept.
LARGER = "(a != a || a > b) ? a : b"


class Operations:
    """Of a module with NumPy's interface. `aligned`: rows begin at multiples of so many numbers."""

    aligned = 1
    elementwise: Callable[..., Any] | None = None

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def product(self, a: Array, b: Array, out: Array) -> None:
        """out <- a b."""
        self.xp.matmul(a, b, out=out)

    def row_squares(self, block: Array) -> Array:
        """||row||^2 of every row (rows,)."""
        return self.xp.vecdot(block, block)

    def with_transpose(self, matrix: Array, out: Array, spare: Array) -> None:
        """out <- A + A^T. spare: an array of its shape whose rows are not a power of two apart,
        where the cache holds what lies in one column.
        """
        self.xp.copyto(spare, matrix)
        self.xp.add(matrix, spare.T, out=out)

    def square(self, block: Array) -> Array:
        """||block||^2 of a contiguous block, on its device."""
        flat = block.reshape(-1)
        return self.xp.dot(flat, flat)

    def inner(self, a: Array, b: Array) -> Any:
        """<a, b> of two contiguous blocks: a number, or what will be one on the device."""
        return float(self.xp.dot(a.reshape(-1), b.reshape(-1)))

    def quotient(self, matrix: Array, v: Array) -> Any:
        """v.Sv, likewise."""
        return float(v @ (matrix @ v))

    def largest_ratio(self, squares: Array, sizes: Array) -> Array:
        """The largest square over its size, on its device."""
        xp = self.xp
        tiny = float(xp.finfo(squares.dtype).tiny)
        ratio: Array = (squares / xp.maximum(sizes, tiny)).max()
        return ratio

    def cost(self, targets: Targets, z: Array, row: Array) -> Array:
        """C of every sample (B,); the logits z (K, B) become dC/dz. row: a buffer (B,)."""
        loss = values(targets, z, self.xp)
        into_slope(targets, z, row, self.xp)
        self.xp.subtract(z, targets.values, out=z)
        return loss

    def gathered(self, numbers: Sequence[Array]) -> Array:
        """Numbers on the device as one vector there."""
        return self.xp.asarray(numbers)

    def on_host(self, array: Array) -> np.ndarray:
        """As an array of NumPy."""
        host: np.ndarray = array
        return host

    def nudged_slopes(self, targets: Targets, bias: Array, now: Any, work: Buffers) -> None:
        """e <- dC/dz at +beta, -dC/dz at -beta, from the products with W_out in `work.logits`."""
        xp, z = self.xp, work.logits
        xp.add(z, bias[:, None], out=z)
        into_slope(targets, z, work.row, xp)
        xp.subtract(z[:, : work.batch], targets.values, out=now.slopes[0])
        xp.subtract(targets.values, z[:, work.batch :], out=now.slopes[1])


class Fused(Operations):
    """Of CuPy, or of a module that has its kernels."""

    aligned = 32

    def __init__(self, xp: Any, dtype: Any) -> None:
        super().__init__(xp)
        self.elementwise = xp.ElementwiseKernel
        self._inner = xp.ReductionKernel(
            "T x, T y", "T out", "x * y", "a + b", "out = a", "0", "eqprop_inner"
        )
        tiny = np.finfo(dtype).tiny
        self._largest = xp.ReductionKernel(
            "T x, T y", "T out", f"x / (y < (T){tiny:.9e} ? (T){tiny:.9e} : y)", LARGER, "out = a",
            "0", "eqprop_largest",
        )  # fmt: skip
        self._cost = xp.ElementwiseKernel(COST_TAKES, "raw T z, raw T loss", COST, "eqprop_cost")
        self._gathers: dict[int, Callable[..., Any]] = {}
        self._slopes = xp.ElementwiseKernel(SLOPES_TAKES, "raw T e", SLOPES, "eqprop_slopes")
        self.blas: Blas | None = None
        self.why = ""
        try:
            self.blas = Blas(xp, dtype)
        except RuntimeError as error:
            self.why = str(error)

    def product(self, a: Array, b: Array, out: Array) -> None:
        """out <- a b."""
        if self.blas is None:
            self.xp.matmul(a, b, out=out)
        else:
            self.blas(a, b, out)

    def with_transpose(self, matrix: Array, out: Array, spare: Array) -> None:
        """out <- A + A^T."""
        self.xp.add(matrix, matrix.T, out=out)

    def row_squares(self, block: Array) -> Array:
        """||row||^2 of every row (rows,)."""
        return self._inner(block, block, axis=1)

    def square(self, block: Array) -> Array:
        """||block||^2, on its device."""
        return self._inner(block, block)

    def inner(self, a: Array, b: Array) -> Any:
        """<a, b>, on its device."""
        return self._inner(a, b)

    def quotient(self, matrix: Array, v: Array) -> Any:
        """v.Sv, on its device."""
        image = self.xp.empty((1, len(v)), v.dtype)
        self.product(v[None], matrix, image)
        return self._inner(image[0], v)

    def gathered(self, numbers: Sequence[Array]) -> Array:
        """In one kernel: CuPy would send the addresses of the arrays from the host."""
        count = len(numbers)
        if count not in self._gathers:
            self._gathers[count] = self._gather(count)
        out = self.xp.empty(count, np.float64)
        self._gathers[count](*numbers, out)
        return out

    def _gather(self, count: int) -> Callable[..., Any]:
        takes = ", ".join(f"{chr(65 + place)} x{place}" for place in range(count))
        picks = "".join(f"i == {place} ? (double)x{place} : " for place in range(count - 1))
        body = f"out = {picks}(double)x{count - 1}"
        made: Callable[..., Any] = self.xp.ElementwiseKernel(
            takes, "float64 out", body, f"eqprop_gather_{count}"
        )
        return made

    def largest_ratio(self, squares: Array, sizes: Array) -> Array:
        """The largest square over its size, in one kernel."""
        return self._largest(squares, sizes)

    def cost(self, targets: Targets, z: Array, row: Array) -> Array:
        """C of every sample (B,); the logits z (K, B) become dC/dz, in one kernel."""
        loss, t, total = self.xp.empty_like(row), targets.values, targets.total
        self._cost(
            t, t if total is None else total, len(t), len(loss), targets.cost == "cross_entropy",
            total is not None, z, loss, size=len(loss),
        )  # fmt: skip
        return loss

    def on_host(self, array: Array) -> np.ndarray:
        """As an array of NumPy; waits for the device."""
        host: np.ndarray = self.xp.asnumpy(array)
        return host

    def nudged_slopes(self, targets: Targets, bias: Array, now: Any, work: Buffers) -> None:
        """e <- dC/dz at +beta, -dC/dz at -beta, in one kernel."""
        t, total, z = targets.values, targets.total, work.logits
        self._slopes(
            z, bias, t, t if total is None else total, len(t), work.batch, z.shape[1],
            targets.cost == "cross_entropy", total is not None, now.errors, size=z.shape[1],
        )  # fmt: skip


def operations(xp: Any, dtype: Any) -> Operations:
    """Those of a module: fused where it can compile kernels."""
    return Fused(xp, dtype) if hasattr(xp, "ElementwiseKernel") else Operations(xp)
