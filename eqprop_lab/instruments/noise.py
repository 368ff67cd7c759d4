"""A model on a device that is not exact: noise on states, nudge and weights, numbers of few bits.

    s_l <- Q(activate(force_l(s) - nudge_l(s)) + states xi)       xi ~ N(0, 1), every unit its own
    nudge: beta dC/dz -> beta dC/dz + nudge xi                    absolute, as beta is
    W -> Q(W) + weights rms(W) xi                                 symmetric where W is
    Q(x) = r clip(rint(L x/r), -L, L)/L,   L = 2^(bits-1) - 1     r = 1 for states, max |W| for W

An estimator divides a difference of phases by beta. What is drawn for every step or phase is
independent in them and stays in the difference: an error of noise/beta. What is held over the whole
batch (`each="batch"`) is the same in all phases: it moves the state at which the gradient is taken
and cancels in the difference. A complex state has noise of the same size in both parts; what is
held over the batch is real, as an offset of a unit is.

Source: Laborieux and Zenke 2022, arXiv:2209.00530 (noise in the dynamics, finite nudges).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from eqprop_lab.equilibrium.contract import EquilibriumModel, holding
from eqprop_lab.equilibrium.requirements import equilibrium_model
from eqprop_lab.equilibrium.state import State, added
from eqprop_lab.equilibrium.view import ModelView
from eqprop_lab.instruments.rounded_products import BFLOAT16, rounded
from eqprop_lab.validation import a_seed, integer, one_of, real

EACH = ("step", "phase", "batch")
LEAST_BITS, MOST_BITS = 2, 16
# what a device without any noise takes from the model as it stands, so that no bit changes
_WAYS = (
    "step", "walk", "update", "block_forces", "initial_state", "force", "drive", "readout", "pull",
    "add_pull", "activate", "activate_", "activate_pair", "contraction_bound", "frozen_weights",
    "effective_weights", "mean_difference", "partial_drives", "contraction_metric",
    "metric_condition", "products",
)  # fmt: skip

Bits = int | str | None
Swaps = list[tuple[Tensor, Tensor]]  # whose values, and by which


def number_format(name: str, value: object) -> Bits:
    """2 to 16 bits, "bfloat16" or None. Raises TypeError, ValueError naming the argument."""
    if value is None or value == "bfloat16":
        return value
    wanted = f"an integer from {LEAST_BITS} to {MOST_BITS}, 'bfloat16' or None"
    return integer(name, value, at_least=LEAST_BITS, at_most=MOST_BITS, accepted=wanted)


def coarse(x: Tensor, bits: Bits, reach: float | Tensor = 1.0) -> Tensor:
    """Q(x): the nearest of 2^bits - 1 equally spaced numbers in [-reach, reach], or of bfloat16.

    x: any shape, real or complex (both parts alike). None: x itself.
    """
    if bits is None:
        return x
    if x.is_complex():
        return torch.complex(coarse(x.real, bits, reach), coarse(x.imag, bits, reach))
    if isinstance(bits, str):
        return rounded(x.detach(), BFLOAT16)
    if not float(reach) > 0:
        return x  # all zeros
    levels = 2 ** (bits - 1) - 1
    return (x.detach() * (levels / reach)).round().clamp(-levels, levels) * (reach / levels)


class Noisy(ModelView):
    """`model` with noise and rounding; what it wraps is never changed, and its parameters are
    trained through it.

    Gradients are those that a digital update would make of what is read off the device: local
    products of its states, at the weights as they are stored (straight through the rounding).
    `relax`, `estimate_gradients`, `EqPropTrainer` and a forward call take it as they take the
    model; parameters are called "model." and their own name. Without any noise it is the model, bit
    for bit.

    Args:
        states, nudge >= 0: standard deviations, of each unit and of each logit's nudge. weights >=
            0: relative to the root mean square of each weight; biases are exact.
        state_bits, weight_bits: 2 to 16, "bfloat16", or None (as the tensors are).
        each: "step" draws anew in every step, "phase" once for each phase, + and - apart, "batch"
            once for all phases of a batch: common noise. Weights are read once a phase at most, by
            stacked phases together.
        seed: of the noise; None takes torch's global generators.
    Phases under each="step" do not settle: estimates say so in a ConvergenceWarning, and a `tol` is
    missed. One thread at a time. `response` and `implicit` relax no states of the device: of them
    only the free phase is noisy.
    Raises: TypeError for a model that relaxes its phases itself (predictive coding); TypeError,
    ValueError naming the argument; ValueError for states beyond [-1, 1] on a grid of bits.
    """

    def __init__(
        self,
        model: EquilibriumModel,
        *,
        states: float = 0.0,
        nudge: float = 0.0,
        weights: float = 0.0,
        state_bits: int | str | None = None,
        weight_bits: int | str | None = None,
        each: str = "step",
        seed: int | None = None,
    ) -> None:
        model = equilibrium_model(model)
        super().__init__(model)
        self.model = model  # as a part: it is trained, moved and saved with this one
        self.states = real("states", states, at_least=0.0)
        self.nudge = real("nudge", nudge, at_least=0.0)
        self.weights = real("weights", weights, at_least=0.0)
        self.state_bits = number_format("state_bits", state_bits)
        self.weight_bits = number_format("weight_bits", weight_bits)
        self.each = one_of("each", each, EACH)
        self.seed = None if seed is None else a_seed("seed", seed)
        self._generators: dict[torch.device, torch.Generator] = {}
        self._held: dict[object, Tensor] = {}
        self._worn: Swaps | None = None
        self._rows, self._place, self._pulls = 1, 0, 0
        self._moving = sum(map(len, self.groups))
        if self.silent:
            for name in _WAYS:
                if hasattr(model, name):
                    setattr(self, name, getattr(model, name))
        elif type(model).contrasted is not EquilibriumModel.contrasted:
            raise TypeError(
                f"model: {type(model).__name__} relaxes its phases itself, noise would not reach "
                "them; a model whose phases are relaxed step by step is accepted"
            )

    @property
    def silent(self) -> bool:
        """Whether there is neither noise nor rounding."""
        return not (self.states or self.nudge or self.weights or self.state_bits or self._stored)

    @property
    def _stored(self) -> bool:
        """Whether the weights of the device are others than those of the model."""
        return self.weights > 0 or self.weight_bits is not None

    # --- drawing

    def _normal(self, like: Tensor) -> Tensor:
        """N(0, 1) of the same shape, in both parts of complex numbers."""
        generator = None
        if self.seed is not None:
            generator = self._generators.get(like.device)
            if generator is None:
                generator = torch.Generator(device=like.device).manual_seed(self.seed)
                self._generators[like.device] = generator
        size = like.real if like.is_complex() else like
        parts = [
            torch.randn(size.shape, generator=generator, device=size.device, dtype=size.dtype)
            for _ in range(1 + like.is_complex())
        ]
        return parts[0] if len(parts) == 1 else torch.complex(*parts)

    def _noise(self, like: Tensor, key: object) -> Tensor:
        """What is added to `like` where it is of size 1: fresh, or what is held under this key."""
        if self.each == "step":
            return self._normal(like)
        if self.each == "phase":
            if key not in self._held:
                self._held[key] = self._normal(like)
            return self._held[key]
        if key not in self._held:
            first = like[: self._rows]
            self._held[key] = self._normal(first.real if like.is_complex() else first)
        copies = len(like) // self._rows
        return self._held[key].repeat(copies, *[1] * (like.ndim - 1))

    # --- states

    def initial_state(self, drive: State) -> State:
        """A batch begins."""
        with self._device(), holding(self.model, self.effective_weights):
            state = self.model.initial_state(drive)
        self._rows, self._place = len(state[0]), 0
        self._held.clear()
        if isinstance(self.state_bits, int):
            self._check_reach(state)
        return state

    def _check_reach(self, state: State) -> None:
        largest = max(float(block.detach().abs().max()) for block in state)
        if largest > 1:
            raise ValueError(
                f"state_bits={self.state_bits} is a grid in [-1, 1], the states of "
                f"{type(self.model).__name__} reach {largest:.3g}; take 'bfloat16'"
            )

    def activate(self, a: Tensor) -> Tensor:
        s = self.model.activate(a)
        if self.states:
            # the order of the blocks in a sweep is always the same
            s = s + self.states * self._noise(s, ("state", self._place))
        self._place, self._pulls = (self._place + 1) % self._moving, 0
        if self.state_bits is None:
            return s
        near = coarse(s, self.state_bits)
        return s + (near - s).detach() if s.requires_grad else near

    def pull(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        if self.nudge:
            # a complex cotangent comes in two parts
            noise = self._noise(cotangent, ("nudge", self._pulls))
            cotangent, self._pulls = cotangent + self.nudge * noise, self._pulls + 1
        with self._device():
            return self.model.pull(state, cotangent)

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        return added(force, self.pull(state, cotangent), factor)

    # --- weights

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """A phase begins, or the whole of an estimate."""
        self._place = self._pulls = 0
        if self.each == "phase":
            self._held.clear()
        outermost = self.model._frozen is None
        if outermost:
            self._worn = self._plain()
        try:
            with holding(self.model, self.effective_weights):
                if self.weights and self.each != "batch" and not outermost:
                    self._worn = self._plain()
                    self.model._weights().update(self.effective_weights())
                yield
        finally:
            if outermost:
                self._worn = None

    def _wear(self, weight: Tensor) -> Tensor:
        """A weight as the device has it, another tensor."""
        stored = coarse(weight.detach(), self.weight_bits, weight.detach().abs().max())
        if not self.weights:
            return stored.clone()
        xi = self._normal(stored)
        if weight.ndim == 2 and len(weight) == weight.shape[1] and torch.equal(weight, weight.mT):
            xi = (xi.triu() + xi.triu(1).mT).contiguous()
        return stored + self.weights * stored.square().mean().sqrt() * xi

    def _plain(self) -> Swaps:
        """The weights that are parameters themselves, and how the device has them."""
        if not self._stored:
            return []
        return [
            (p, self._wear(p))
            for name, p in self.model.named_parameters()
            if p.ndim > 1 and "parametrizations." not in name and not name.endswith("bias")
        ]

    def _bounded(self) -> Swaps:
        """The same for parametrised weights, as one evaluation has them."""
        evaluated = [
            getattr(module, name)
            for module in self.model.modules()
            if parametrize.is_parametrized(module)
            for name in module.parametrizations  # type: ignore[union-attr]
        ]
        return [(w, self._wear(w)) for w in evaluated]

    def effective_weights(self) -> dict[str, Tensor]:
        """What steps read, as the device has it."""
        if not self._stored:
            return self.model.effective_weights()
        # one evaluation of each, from which all that is made of a weight follows
        with torch.no_grad(), self._device(), parametrize.cached(), _swapped(self._bounded()):
            return {name: w.clone() for name, w in self.model.effective_weights().items()}

    def _device(self) -> AbstractContextManager[None]:
        """Inside, parameters are what the device has in their place."""
        if not self._stored:
            return nullcontext()
        return _swapped(self._plain() if self._worn is None else self._worn)

    # --- questions to the model

    def drive(self, x: Tensor) -> State:
        with self._device():
            return self.model.drive(x)

    def force(self, state: State, drive: State) -> State:
        with self._device():
            return self.model.force(state, drive)

    def block_forces(self, group: tuple[int, ...], state: State, drive: State) -> State:
        with self._device():
            return self.model.block_forces(group, state, drive)

    def readout(self, state: State) -> Tensor:
        with self._device():
            return self.model.readout(state)

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        with self._device():
            return self.model.readout_vjp(state, cotangent)

    def energy(self, state: State, drive: State) -> Tensor:
        """The model's own, at its own weights."""
        return self.model.energy(state, drive)

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        found = self.model.parameter_gradients(x, cotangent, state, free, error, driven)
        return {f"model.{name}": gradient for name, gradient in found.items()}

    def extra_repr(self) -> str:
        places = ("states", "nudge", "weights", "state_bits", "weight_bits", "each")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in places)


@contextmanager
def _swapped(pairs: Swaps) -> Iterator[None]:
    """Inside, each first tensor has the values of the second; afterwards its own memory again."""
    own = [tensor.data for tensor, _ in pairs]
    try:
        for tensor, values in pairs:
            tensor.data = values
        yield
    finally:
        for (tensor, _), data in zip(pairs, own, strict=True):
            tensor.data = data
