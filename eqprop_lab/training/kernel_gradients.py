"""`use_kernel=True`: gradients from `EqPropKernel` on the memory of the model's own tensors.

The kernel reads the parameters where they lie and computes one batch; optimiser, checkpoints and
history stay the trainer's, and so does sigma's vector. `.grad` then lies in the kernel's buffers,
which the next batch overwrites.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eqprop_lab import quick_tanh
from eqprop_lab.acceleration import check_cupy_available
from eqprop_lab.equilibrium.activations import MINUS_ONE
from eqprop_lab.equilibrium.contrast import PER_EPS, Estimate
from eqprop_lab.equilibrium.relaxation import (
    NOISE,
    SETTLED,
    DivergenceError,
    Equilibrium,
    expected_error,
)
from eqprop_lab.equilibrium.settings import Settings
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.kernel.estimating import CENTERED, ESTIMATORS, KernelEstimate
from eqprop_lab.kernel.phases import Settled
from eqprop_lab.kernel.units import LOGISTIC, SHIFTED, Units, tanh_of_scaled
from eqprop_lab.models.looped_mlp import LoopedMLP

DTYPES = (torch.float32, torch.float64)


@lru_cache(maxsize=1)
def _cupy() -> tuple[bool, str]:
    return check_cupy_available()


def refuse(model: nn.Module, gradient: str, settings: Settings | None, **switches: bool) -> None:
    """Raise ValueError naming the first thing that the kernel cannot express.

    switches: others of the trainer that it takes only when they are off.
    """
    weight = next(model.parameters())
    usable, why = _cupy()
    devices = ("cpu", "cuda") if usable else ("cpu",)
    accepted = "cpu or cuda" if usable else f"cpu ({why})"
    rules: list[tuple[str, bool, object]] = [
        ("model, which must be a LoopedMLP itself", type(model) is LoopedMLP, type(model).__name__),
        ("symmetric, which must be True", getattr(model, "symmetric", True), False),
        (f"gradient, which must be {' or '.join(ESTIMATORS)}", gradient in ESTIMATORS, gradient),
        ("dtype, which must be float32 or float64", weight.dtype in DTYPES, weight.dtype),
        (f"device, which must be {accepted}", weight.device.type in devices, weight.device),
    ]
    if settings is not None:
        rules += [
            ("tol, which must be None", settings.tol is None, settings.tol),
            ("solver, which must be picard", settings.solver == "picard", settings.solver),
            ("beta, which must be a number", not settings.relative, "auto"),
        ]
    rules += [(f"{name}, which must be False", not on, on) for name, on in switches.items()]
    for rule, kept, value in rules:
        if not kept:
            raise ValueError(f"use_kernel=True does not go with this {rule}; got {value}")


@lru_cache(maxsize=1)
def say_without_cupy() -> None:
    """One warning a process where CuPy has no device: the kernel is NumPy's, on CPU tensors."""
    usable, why = _cupy()
    if not usable:
        warnings.warn(f"use_kernel=True computes with NumPy on CPU tensors: {why}", stacklevel=4)


@dataclass(frozen=True)
class Memory:
    """The arrays of a device, and how tensors and they share memory both ways."""

    name: str
    array: Callable[[Tensor], Any]
    tensor: Callable[[Any], Tensor]
    same_stream: Callable[[], AbstractContextManager[Any]] = nullcontext

    @staticmethod
    def of(device: torch.device) -> Memory:
        """NumPy's on the CPU, CuPy's through DLPack on a GPU."""
        if device.type == "cpu":
            return Memory("numpy", lambda t: t.detach().numpy(), torch.from_numpy)
        cupy = importlib.import_module("cupy")

        @contextmanager
        def same_stream() -> Iterator[None]:
            stream = torch.cuda.current_stream(device).cuda_stream
            with cupy.cuda.Device(device.index or 0):
                # torch's default stream and CuPy's are one and the same
                with cupy.cuda.Stream.from_external(Stream(stream)) if stream else nullcontext():
                    yield

        def array(tensor: Tensor) -> Any:
            return cupy.from_dlpack(tensor.detach())

        return Memory("cupy", array, torch.from_dlpack, same_stream)


@dataclass(frozen=True)
class Stream:
    """A stream of torch's, as other libraries ask for it."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def _sigmoid(xp: Any, a: np.ndarray, out: np.ndarray | None = None) -> None:
    torch.sigmoid(torch.from_numpy(a), out=torch.from_numpy(a if out is None else out))


def _shifted(xp: Any, a: np.ndarray, out: np.ndarray | None = None) -> None:
    scaled = torch.from_numpy(a)
    result = scaled if out is None else torch.from_numpy(out)
    torch.add(MINUS_ONE, scaled.sigmoid_(), alpha=2, out=result)


# torch's sigmoid takes half the time of NumPy's exponential where there is no AVX-512.
TORCH_SIGMOID = Units("torch_sigmoid", _sigmoid, -LOGISTIC.gain, LOGISTIC.width, LOGISTIC.offset)
TORCH_SHIFTED = Units("torch_shifted", _shifted, -SHIFTED.gain, last=tanh_of_scaled(-SHIFTED.gain))


class KernelGradients:
    """Estimates of a LoopedMLP by the kernel: (x, y) -> (Estimate, cost per sample).

    Raises ValueError where the kernel cannot express what is asked (see `refuse`).
    """

    def __init__(
        self, model: nn.Module, gradient: str, settings: Settings | None, cost: str,
        **switches: bool,
    ) -> None:  # fmt: skip
        refuse(model, gradient, settings, **switches)
        assert isinstance(model, LoopedMLP) and settings is not None
        say_without_cupy()
        weight = next(model.parameters())
        self.model, self.dtype, self.device = model, weight.dtype, weight.device
        self.memory = Memory.of(self.device)
        self.views: dict[str, tuple[int, Any]] = {}
        on_cpu = self.dtype == torch.float32 and self.device.type == "cpu"
        slow = on_cpu and quick_tanh.WAY == quick_tanh.SIGMOID
        self.kernel = EqPropKernel(
            model.input_dim, model.hidden_dim, model.output_dim,
            use_spectral_norm=model.use_spectral_norm, rho=model.rho,
            free_steps=settings.free_steps, nudged_steps=settings.nudged_steps,
            estimator=gradient, beta=settings.beta, cost=cost, arrays=self.memory.name,
            dtype=str(self.dtype).removeprefix("torch."),
            free_units=TORCH_SIGMOID if slow else None,
            nudged_units=TORCH_SHIFTED if slow else None,
        )  # fmt: skip
        self.kernel.estimator.record()  # the same bits, a hundred calls fewer
        self.apart = 2.0 if gradient == CENTERED else math.inf

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Estimate, Tensor]:
        """Gradients of one batch at the weights as they are now. Raises as the estimators do."""
        model, array = self.model, self.memory.array
        model.check_batch(x)
        targets = model.targets(x, y)
        parameters = self._parameters()
        original = model.W_rec.get_parameter("parametrizations.weight.original")
        with torch.no_grad(), self.memory.same_stream():
            vector = None if model.bound.cap is None else array(model.bound.top(original))
            shared = {name: self._view(name, p) for name, p in parameters.items()}
            try:
                found = self.kernel.estimate(array(x), array(targets), shared, vector)
            except FloatingPointError as error:
                raise DivergenceError(str(error)) from error
        return self._as_estimate(found, parameters), self.memory.tensor(found.loss)

    def _view(self, name: str, parameter: nn.Parameter) -> Any:
        """The parameter as an array, made anew only where its memory has been replaced."""
        place, held = parameter.data_ptr(), self.views.get(name)
        if held is None or held[0] != place:
            held = self.views[name] = place, self.memory.array(parameter)
        return held[1]

    def _parameters(self) -> dict[str, nn.Parameter]:
        """Those of the model, looked up anew: their memory may have been replaced."""
        parameters = dict(self.model.named_parameters())
        weight = next(iter(parameters.values()))
        if (weight.dtype, weight.device) != (self.dtype, self.device):
            raise ValueError(
                f"use_kernel=True was set up for a model of {self.dtype} on {self.device}, which "
                f"is now of {weight.dtype} on {weight.device}: make a new trainer"
            )
        return parameters

    def _as_estimate(
        self, found: KernelEstimate, parameters: Mapping[str, nn.Parameter]
    ) -> Estimate:
        gradients = {
            name: self.memory.tensor(found.gradients[name])
            for name, p in parameters.items()
            if p.requires_grad
        }
        if not gradients:
            raise ValueError(
                "model must have a parameter to train: every one of them has requires_grad=False"
            )
        free, nudged, eps = found.free, found.nudged, torch.finfo(self.dtype).eps
        end = Equilibrium(
            (), free.steps, free.residual, free.residual <= SETTLED, change=free.change,
            error=_error(free, eps), coarse=free.coarse,
        )  # fmt: skip
        rounding = 2 / self.apart * PER_EPS * eps * nudged.coarse
        logits = self.memory.tensor(found.logits)
        return Estimate(gradients, end, logits, nudged.change, _error(nudged, eps), rounding)


def _error(phase: Settled, eps: float) -> float:
    return expected_error(phase.change, phase.pace, NOISE * eps * phase.size)
