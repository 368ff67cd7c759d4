"""TF32, CuPy, and a torch.compile whose fallback works.

torch.compile is lazy: it fails at the first call, not where it is asked for. The fallback sits
there too.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from eqprop_lab.devices import (
    get_optimal_backend as get_optimal_backend,
    pick_device as pick_device,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.modules import a_module
from eqprop_lab.validation import arguments, known_keys, one_of, switch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of the options in malloc.h
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def enable_tf32(enabled: bool = True) -> bool:
    """Allow TF32 in float32 products and convolutions; True where a CUDA device makes use of it.

    Ten bits of mantissa: about 1e-3 relative, coarser than the nudge of a small beta. For exact
    comparisons: False.
    """
    enabled = switch("enabled", enabled)
    precision = "tf32" if enabled else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    cudnn: Any = torch.backends.cudnn
    # torch holds three switches of cuDNN, and its own code raises where they disagree
    cudnn.allow_tf32 = enabled
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = precision
    return enabled and torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8


def quick_convolutions(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: convolutions in TF32, with the kernel that was quickest for every shape when tried.

    Which one that is differs from run to run, and so do the last digits. Elsewhere: nothing.
    """
    return _quickest() if device.type == "cuda" else nullcontext()


@contextmanager
def _quickest() -> Iterator[None]:
    # Not cudnn.flags: it asks for one TF32 switch, and raises where convolutions have their own.
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision
    cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = True, False, "tf32"
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = before


@contextmanager
def readable_tf32() -> Iterator[None]:
    """cuDNN's TF32 switches in agreement, for code of torch that raises where they are not.

    The old switch cannot be read while the new ones differ from it: they are brought to its side,
    and set back at the end.
    """
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    try:
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"
        if not _reads(cudnn):
            cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"
        yield
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before


def _reads(cudnn: Any) -> bool:
    try:
        return cudnn.allow_tf32 in (True, False)
    except RuntimeError:
        return False


def check_cupy_available() -> tuple[bool, str]:
    """(usable, why): an import proves nothing, so an array is added up on a device."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return False, f"CuPy does not import: {error}"
    try:
        total = float(cupy.ones(2).sum())
    except Exception as error:
        # CuPy has classes of its own for a missing driver, device or library; the message says
        # which.
        return False, f"CuPy {cupy.__version__} has no usable device: {str(error).splitlines()[0]}"
    if total != 2.0:
        return False, f"CuPy {cupy.__version__} adds 1 + 1 to {total}"
    return True, f"CuPy {cupy.__version__}"


class CompiledCall:
    """`model.<method>` through torch.compile; at the first failure it warns once and stays eager.

    Copies of the model compile anew: the compiled code is bound to the weights of one model.
    """

    def __init__(self, model: nn.Module, method: str, options: dict[str, Any]) -> None:
        self.model, self.method, self.options = model, method, options
        self.compiled: Any = None
        self.failed = False
        self.reason = ""  # of the failure

    def eager(self, *args: Any, **kwargs: Any) -> Any:
        """The method as its class defines it."""
        return getattr(type(self.model), self.method)(self.model, *args, **kwargs)

    def compiles(self, state: Any, drive: Any, nudge: Any) -> bool:
        """Whether a step with these runs compiled; the first of them is tried."""
        if self._is_another_program(nudge):
            return False
        if self.compiled is None and not self.failed:
            self(state, drive)
        return not self.failed

    @staticmethod
    def _is_another_program(nudge: Any) -> bool:
        """Whether a step is left eager: a nudge is a new closure for every batch, and a graph
        through the steps is another program; both would be compiled again and again.
        """
        return nudge is not None or torch.is_grad_enabled()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The compiled method where it is worth it, the eager one elsewhere."""
        if self.failed:
            return self.eager(*args, **kwargs)
        given, named = args, kwargs
        if self.method == "step":
            if self._is_another_program(args[2] if len(args) > 2 else kwargs.get("nudge")):
                return self.eager(*args, **kwargs)
            args, kwargs = args[:2], {k: v for k, v in kwargs.items() if k in ("state", "drive")}
        try:
            if self.compiled is not None:
                return self.compiled(*args, **kwargs)
            with warnings.catch_warnings():
                # The compiler's own parts use what torch deprecates; that is nothing a caller can
                # act on.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.compiled = torch.compile(self.eager, **self.options)
                return self.compiled(*args, **kwargs)
        except Exception as error:
            # an error of the model itself is raised here, as it is
            result = self.eager(*given, **named)  # as every later call, buffers included
            self.failed, self.compiled = True, None
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.reason = f"{type(error).__name__}: {' '.join(lines[:2])}"
            warnings.warn(
                f"torch.compile failed, {type(self.model).__name__}.{self.method} runs eagerly: "
                f"{self.reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "compiled": None}


def compile_model(model: nn.Module, mode: str = "default", **options: Any) -> nn.Module:
    """Compile in place what a model does most, and return it.

    That is the free-phase `step` of an equilibrium model, `forward` of any other.

    Parameters, state_dict and isinstance stay as they are. On a CPU it does not pay: a step is one
    matrix product and one tanh, both already fast and written into buffers. Measured there: 0.6 to
    1.1 times the speed of the eager step, after 2 to 25 s of compilation; `measure_speed` says what
    it brings on this machine. Where compilation fails (no C++ compiler, an operation it does not
    know), one RuntimeWarning is given at the first call and the model runs eagerly.

    Args: mode: one of `COMPILE_MODES`; options: passed to torch.compile (`backend`, `fullgraph`,
    `dynamic`).
    Raises: TypeError, ValueError naming the argument.
    """
    a_module("model", model)
    takes = [key for key in arguments(torch.compile) or () if key not in ("model", "mode")]
    known_keys("the options", options, takes)
    method = "step" if isinstance(model, EquilibriumModel) else "forward"
    chosen = {"mode": one_of("mode", mode, COMPILE_MODES), **options}
    if "backend" in options:
        del chosen["mode"]  # modes are Inductor's; other backends refuse them
    model.__dict__[method] = CompiledCall(model, method, chosen)
    return model


def uncompile_model(model: nn.Module) -> nn.Module:
    """Undo `compile_model`, in place, and return the same model."""
    for method in ("step", "forward"):
        if isinstance(model.__dict__.get(method), CompiledCall):
            del model.__dict__[method]
    return model


if TYPE_CHECKING:
    HAS_CUPY: bool
else:

    def __getattr__(name: str) -> bool:
        # Asked for, not at import: the probe starts the CUDA runtime.
        if name == "HAS_CUPY":
            return check_cupy_available()[0]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensors; True where it can.

    A sweep makes and frees tensors of a few MB. By default glibc returns each to the system and
    asks for it again, page by page: a fifth of a convolutional training step. Afterwards the
    process holds on to its peak. Linux with glibc only; elsewhere nothing happens.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune is None:
        return False
    return all(
        tune(option, size) == 1
        for option, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 1 << 30))
    )
