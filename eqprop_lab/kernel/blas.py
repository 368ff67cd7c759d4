"""cuBLAS by its C interface: products of row-major matrices, into any part of a larger array.

    C <- A B    is C^T <- B^T A^T for cuBLAS, whose matrices lie column by column

CuPy's own products copy where the result is no array of its own, and refuse to be recorded into a
CUDA graph. Here the handle has a workspace of its own, which is all that a recording asks for.
Source: the sections on CUDA graphs and cublasSetWorkspace in NVIDIA's cuBLAS manual.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from typing import Any

import numpy as np

from eqprop_lab.kernel.arrays import Array, address

WORKSPACE = 32 << 20  # bytes, as the manual advises for Hopper; less would do before it
_GEMM = {
    "float32": ("cublasSgemm_v2", ctypes.c_float),
    "float64": ("cublasDgemm_v2", ctypes.c_double),
}


class Blas:
    """Products in one dtype on the current stream. Raises RuntimeError where there is no cuBLAS."""

    def __init__(self, cupy: Any, dtype: Any) -> None:
        self.cupy, self.library, self.handle = cupy, _library(cupy), ctypes.c_void_p()
        _succeed("cublasCreate", self.library.cublasCreate_v2(ctypes.byref(self.handle)))
        end = weakref.finalize(self, self.library.cublasDestroy_v2, self.handle)
        end.atexit = False  # the driver may be gone by then
        name, number = _GEMM[np.dtype(dtype).name]
        self.one, self.zero = number(1), number(0)
        self.gemm, self.size = getattr(self.library, name), np.dtype(dtype).itemsize
        self.workspace = cupy.empty(WORKSPACE, np.uint8)
        self.stream: int | None = None

    def _follow(self, stream: int) -> None:
        """Work on this stream; cuBLAS takes its workspace back with every change."""
        handle, place = self.handle, ctypes.c_void_p(address(self.workspace))
        _succeed(
            "cublasSetStream", self.library.cublasSetStream_v2(handle, ctypes.c_void_p(stream))
        )
        set_workspace = self.library.cublasSetWorkspace_v2
        _succeed("cublasSetWorkspace", set_workspace(handle, place, ctypes.c_size_t(WORKSPACE)))
        self.stream = stream

    def __call__(self, a: Array, b: Array, out: Array) -> None:
        """out (m, n) <- a (m, k) b (k, n); operands may be transposed views, out may not."""
        stream = self.cupy.cuda.get_current_stream().ptr
        if stream != self.stream:
            self._follow(stream)
        (a, turn_a, step_a), (b, turn_b, step_b) = self._operand(a), self._operand(b)
        turned, step = leading(out.shape, out.strides, self.size)
        if turned != 0:
            raise ValueError(
                f"out must hold its rows one after the other, got strides {out.strides}"
            )
        (m, k), n, pointer = a.shape, b.shape[1], ctypes.c_void_p
        status = self.gemm(
            self.handle, turn_b, turn_a, n, m, k, ctypes.byref(self.one),
            pointer(address(b)), step_b, pointer(address(a)), step_a,
            ctypes.byref(self.zero), pointer(address(out)), step,
        )  # fmt: skip
        _succeed("cublasGemm", status)

    def _operand(self, array: Array) -> tuple[Array, int, int]:
        """The array, whether it lies transposed, and its leading dimension; a copy if it must."""
        turned, step = leading(array.shape, array.strides, self.size)
        if turned is None:
            array = self.cupy.ascontiguousarray(array)
            turned, step = leading(array.shape, array.strides, self.size)
        assert turned is not None
        return array, turned, step


def leading(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> tuple[int | None, int]:
    """(0, numbers from row to row), or (1, from column to column) of a transposed view; (None, 0)
    where neither rows nor columns are whole.
    """
    (rows, columns), (down, along) = shape, strides
    if along == size or columns == 1:
        return 0, max(down // size if rows > 1 else 0, columns)
    if down == size or rows == 1:
        return 1, max(along // size, rows)
    return None, 0


def _library(cupy: Any) -> Any:
    """The library that CuPy has loaded, by the name that belongs to its version."""
    version = 0
    try:
        handle = cupy.cuda.device.get_cublas_handle()
        cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
        version = cublas.getVersion(handle) // 10000
        try:
            return ctypes.CDLL(f"libcublas.so.{version}")
        except OSError:
            return ctypes.CDLL(f"cublas64_{version}.dll")
    except Exception as error:  # CuPy has classes of its own for what is missing
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(f"cuBLAS {version or ''} cannot be called: {reason}") from error


def _succeed(name: str, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"{name} failed with status {status}")
