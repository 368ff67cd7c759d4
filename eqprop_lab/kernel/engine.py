"""EqPropKernel: LoopedMLP without torch, on NumPy or CuPy arrays.

h <- tanh(W_rec h + W_in x + b),    z = W_out h + c,    theta <- optimiser(theta, dL/dtheta)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from eqprop_lab.kernel.arrays import Array, array_module, check_dtype, check_inputs
from eqprop_lab.kernel.bound import FOLLOWED, WAYS, Bound, symmetric_part
from eqprop_lab.kernel.costs import COSTS, Targets, make_targets
from eqprop_lab.kernel.estimating import (
    CENTERED,
    ESTIMATORS,
    IN,
    OUT,
    REC,
    Estimator,
    How,
    KernelEstimate,
    finite,
    parameter_shapes,
)
from eqprop_lab.kernel.operations import Fused, Operations, operations
from eqprop_lab.kernel.optimisers import NAMES, make_optimiser
from eqprop_lab.kernel.phases import read
from eqprop_lab.kernel.units import Units, check_units, quickest
from eqprop_lab.kernel.views import Views, check_shapes
from eqprop_lab.validation import a_seed, one_of, positive_int, real, switch


class EqPropKernel:
    """An equilibrium network `input_dim`-`hidden_dim`-`output_dim` that trains itself.

    The equations, parameters and gradients of LoopedMLP, from closed forms: no autograd, and no
    state is kept beside those being written, so that memory does not depend on the steps.

    Args:
        input_dim, hidden_dim, output_dim, use_spectral_norm, rho, seed: as in LoopedMLP.
        free_steps, nudged_steps: relaxation steps of the phases. estimator: "centered" (beta > 0,
            absolute) or "response". cost: "cross_entropy" or "mse".
        optimizer: "adam" or "sgd" (momentum 0.9), with rate lr > 0.
        dtype: "float32" or "float64"; every array has it. arrays: "numpy", "cupy", or a module with
            their interface. sigma: "followed", or "converged" before every step.
        graph: on CuPy, record the estimate of each batch size as one CUDA graph, whose launch
            replaces a hundred calls. free_units, nudged_units: what the phases keep instead of h
            (see `units`); None: the quickest of this machine.
    Attributes: parameters, {name: array}, named as those of LoopedMLP; write into them as you like.
    Shapes: x (B, input_dim), or any image shape with as many pixels; y class indices (B,), or float
        targets (B, output_dim).
    Raises: TypeError, ValueError naming the argument; RuntimeError where arrays="cupy" finds no
        GPU, or graph=True no cuBLAS. Calls of several threads wait for each other.
    Source: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        use_spectral_norm: bool = True,
        rho: float = 0.9,
        free_steps: int = 30,
        nudged_steps: int = 10,
        estimator: str = CENTERED,
        beta: float = 0.03,
        cost: str = "cross_entropy",
        optimizer: str = "adam",
        lr: float = 1e-3,
        seed: int | None = None,
        dtype: str = "float32",
        arrays: Any = "numpy",
        sigma: str = FOLLOWED,
        graph: bool = False,
        free_units: Units | None = None,
        nudged_units: Units | None = None,
    ) -> None:
        self.input_dim = positive_int("input_dim", input_dim)
        self.hidden_dim = positive_int("hidden_dim", hidden_dim)
        self.output_dim = positive_int("output_dim", output_dim)
        self.use_spectral_norm = switch("use_spectral_norm", use_spectral_norm)
        self.rho = real("rho", rho, above=0.0, below=1.0)
        self.dtype = check_dtype(dtype)
        self.how = How(
            one_of("estimator", estimator, ESTIMATORS),
            _resolved(beta, self.dtype),
            positive_int("free_steps", free_steps),
            positive_int("nudged_steps", nudged_steps),
        )
        self.cost = one_of("cost", cost, COSTS)
        rate = real("lr", lr, above=0.0)
        optimizer = one_of("optimizer", optimizer, NAMES)
        way = one_of("sigma", sigma, WAYS)
        generator = np.random.default_rng(None if seed is None else a_seed("seed", seed))
        self.xp = xp = array_module(arrays)
        self._flat, views = self._laid_out()
        self.parameters = Views(views)
        self._slopes, gradients = self._laid_out()
        for name, value in _initial(self.shapes, generator).items():
            xp.copyto(self.parameters[name], xp.asarray(value.astype(self.dtype)))
        ops = operations(xp, self.dtype)
        graph = _recordable(graph, ops)
        self.bound = Bound(ops, self.rho if self.use_spectral_norm else None, way)
        quick = quickest(xp, self.dtype)
        free = quick[0] if free_units is None else free_units
        nudged = quick[1] if nudged_units is None else nudged_units
        check_units("free_units", free)
        check_units("nudged_units", nudged)
        self.estimator = Estimator(ops, self.dtype, self.bound, gradients, free, nudged)
        self.graph = graph and self.estimator.record()
        self.optimizer = make_optimiser(optimizer, self._flat, rate, xp)
        self._turn = threading.RLock()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{parameter name: shape}."""
        return parameter_shapes(self.input_dim, self.hidden_dim, self.output_dim)

    def _laid_out(self) -> tuple[Array, dict[str, Array]]:
        """One vector, and views of it by parameter name."""
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        flat, views, begin = self.xp.zeros(sum(sizes.values()), self.dtype), {}, 0
        for name, shape in self.shapes.items():
            views[name] = flat[begin : begin + sizes[name]].reshape(shape)
            begin += sizes[name]
        return flat, views

    @classmethod
    def from_model(cls, model: Any, **options: Any) -> Self:
        """A kernel with a copy of the weights of a LoopedMLP, of its dtype and bound.

        options: as the class takes them; free_steps is the model's max_steps unless given.
        Raises TypeError for another model, ValueError for one that is directed or of another dtype.
        """
        check_model(model)
        check_numbers(next(model.parameters()))
        weights = {name: _host(value) for name, value in model.named_parameters()}
        given: dict[str, Any] = {"free_steps": model.max_steps, "dtype": weights[IN].dtype.name}
        given |= {"use_spectral_norm": model.use_spectral_norm, "rho": model.rho} | options
        kernel = cls(model.input_dim, model.hidden_dim, model.output_dim, **given)
        for name, value in weights.items():
            kernel.xp.copyto(kernel.parameters[name], kernel.xp.asarray(value.astype(kernel.dtype)))
        return kernel

    def to_model(self, model: Any) -> Any:
        """Write the weights into a LoopedMLP of this size, and return it.

        model: one to write into, or the class itself (or a function with its arguments), which
        makes a new one, of the kernel's dtype. Raises TypeError, ValueError for a model that is not
        this network.
        """
        if isinstance(model, type) or not hasattr(model, "named_parameters"):
            sizes = self.input_dim, self.hidden_dim, self.output_dim
            steps = self.how.free_steps
            model = model(*sizes, self.use_spectral_norm, self.rho, max_steps=steps)
            model = model.double() if self.dtype == np.float64 else model
        check_model(model)
        parameters = dict(model.named_parameters())
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        cap = model.rho if model.use_spectral_norm else None
        if shapes != self.shapes or cap != self.bound.cap:
            raise ValueError(
                f"model must be {self.input_dim}-{self.hidden_dim}-{self.output_dim} with the cap "
                f"{self.bound.cap}, got {model.input_dim}-{model.hidden_dim}-{model.output_dim} "
                f"with {cap}"
            )
        for name, parameter in parameters.items():
            value = self.parameters[name]
            host = value.get() if hasattr(value, "get") else value
            parameter.detach().copy_(parameter.new_tensor(host))
        return model

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time; what is not finite is looked for, not warned about."""
        with self._turn, np.errstate(all="ignore"):
            yield

    def _vector(self) -> Array | None:
        """sigma's vector at the present weights, None without a bound."""
        if self.bound.cap is None:
            return None
        matrix = self.estimator.space.symmetric
        spare = self.estimator.space.product
        symmetric_part(self.parameters[REC], matrix, self.estimator.ops, spare)
        self.estimator.made = True
        return self.bound.vector(matrix)

    def _inputs(self, x: object) -> Array:
        return check_inputs(x, self.xp, self.input_dim, self.dtype)

    def targets(self, y: object, batch: int) -> Targets:
        """y as the targets of a batch of so many samples. Raises TypeError, ValueError."""
        return make_targets(self.cost, y, batch, self.output_dim, self.xp, self.dtype)

    def estimate(
        self, x: Array, y: Array, parameters: Mapping[str, Array] | None = None,
        v: Array | None = None,
    ) -> KernelEstimate:  # fmt: skip
        """The gradients of one batch and what they come from; their buffers are used again.

        parameters: other arrays than the kernel's own, by name; v: sigma's vector at them.
        Raises TypeError, ValueError naming the argument; FloatingPointError for what diverges.
        """
        with self._alone():
            rows = self._inputs(x)
            targets = self.targets(y, len(rows))
            self.estimator.made = False
            if parameters is None:
                parameters, v = self.parameters, self._vector()
            else:
                check_shapes(parameters, self.shapes)
            return self.estimator.estimate(rows, targets, parameters, self.how, v)

    def gradients(self, x: Array, y: Array) -> dict[str, Array]:
        """{parameter name: dL/dparameter}, L the mean cost of the batch. Raises as `estimate`."""
        with self._alone():
            return {name: value.copy() for name, value in self.estimate(x, y).gradients.items()}

    def train_step(self, x: Array, y: Array) -> dict[str, float]:
        """One update; {"loss", "accuracy", "residual", "nudged_residual"} before it.

        Raises as `estimate`; FloatingPointError too for a gradient that is not finite, and nothing
        is updated then.
        """
        with self._alone():
            found = self.estimate(x, y)
            picked = found.logits.argmax(1)
            aimed = y if y.ndim == 1 else y.argmax(1)
            # One look at the whole vector of gradients.
            whole = self.xp.dot(self._slopes, self._slopes) + found.loss.sum()
            numbers = [whole, found.loss.mean(), (picked == aimed).mean()]
            whole, loss, accuracy = self.estimator.ops.gathered(numbers).tolist()
            self._check(whole, found)
            self.optimizer.step(self._flat, self._slopes)
            return {
                "loss": loss,
                "accuracy": accuracy,
                "residual": found.free.residual,
                "nudged_residual": found.nudged.change,
            }

    def _check(self, whole: float, found: KernelEstimate) -> None:
        """The culprit is looked for only when there is one."""
        xp = self.xp
        if math.isfinite(whole):
            return
        for name, value in {"the cost": found.loss, **found.gradients}.items():
            if not bool(xp.isfinite(value).all()):
                what = name if name == "the cost" else f"the gradient of {name}"
                raise FloatingPointError(f"{what} is not finite; nothing was updated")

    def logits(self, x: Array) -> Array:
        """Logits (B, output_dim) of the free state. Raises as `estimate`."""
        with self._alone():
            rows = self._inputs(x)
            steps = self.how.free_steps
            found = self.estimator.settle(rows, self.parameters, steps, self._vector())
            finite(read(found[1])[0], "free phase")
            logits = self.xp.ascontiguousarray(found[2].T.copy())
            if not bool(self.xp.isfinite(logits).all()):
                raise FloatingPointError("the logits are not finite; does W_out hold NaN?")
            return logits

    def predict(self, x: Array) -> Array:
        """Class indices (B,) of the largest logits. Raises as `estimate`."""
        return self.logits(x).argmax(1)

    def contraction_bound(self) -> float:
        """||W_rec||_2, exact, in float64: the Lipschitz constant of a step."""
        with self._alone():
            vector = self._vector()
            factor = self.bound.scale(self.estimator.space.symmetric, vector)[1]
            matrix = self.parameters[REC].astype(np.float64)
            values = self.xp.linalg.eigvalsh((matrix + matrix.T) / 2)
            return float(factor) * float(self.xp.abs(values).max())


def _recordable(graph: object, ops: Operations) -> bool:
    """Whether to record graphs. Raises ValueError, RuntimeError where nothing can."""
    if not switch("graph", graph):
        return False
    if not isinstance(ops, Fused):
        raise ValueError(
            "graph=True needs arrays='cupy': only a GPU launches a recorded step; got arrays of "
            f"{ops.xp.__name__}"
        )
    if ops.blas is None:
        raise RuntimeError(f"graph=True needs cuBLAS: {ops.why}")
    return True


def _resolved(beta: object, dtype: Any) -> float:
    """beta, if a state of size 1 is not rounded more coarsely than it moves."""
    value, eps = real("beta", beta, above=0.0), float(np.finfo(dtype).eps)
    if value < eps:
        raise ValueError(
            f"beta must be at least the rounding of {dtype}, {eps:.0e}, or what it changes is "
            f"lost, got {value:g}"
        )
    return value


def _initial(
    shapes: dict[str, tuple[int, ...]], generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Uniform up to 1/sqrt(inputs), weights and biases alike: what LoopedMLP begins with."""
    found = {}
    for name, shape in shapes.items():
        width = shapes[IN][1] if name.startswith("W_in") else shapes[OUT][1]
        found[name] = generator.uniform(-1, 1, shape) / math.sqrt(width)
    return found


def check_model(model: Any) -> None:
    """Raise TypeError, ValueError unless a kernel can express this model: LoopedMLP, symmetric."""
    name = type(model).__name__
    if name != "LoopedMLP":
        raise TypeError(f"model must be a LoopedMLP itself, the kernel has no {name}")
    if not model.symmetric:
        raise ValueError(
            "model must be symmetric: the kernel has no LoopedMLP(symmetric=False), whose "
            "gradients need the transpose of W_rec"
        )


def check_numbers(weight: Any) -> None:
    """Raise ValueError unless a tensor's numbers can be copied into a kernel's arrays."""
    if weight.is_meta:
        raise ValueError("model must hold numbers to copy, its weights are on the meta device")
    if str(weight.dtype) not in ("torch.float32", "torch.float64"):
        raise ValueError(f"model must be of float32 or float64 (model.float()), got {weight.dtype}")


def _host(parameter: Any) -> np.ndarray:
    """A tensor's numbers as an array on the CPU."""
    call: Callable[[], Any] = parameter.detach().cpu().numpy
    return np.array(call())
