"""Language models whose loop stays inside each token: LoopedMLP on features of the past.

    r <- tanh(W_rec r + W_in f + b),    z = W_out r + c (+ W_skip f)

    LoopedMLPForLM   f = the last 16 embeddings, side by side
    HybridEqPropLM   f = rms of L - 1 ordinary transformer blocks; W_skip reads it directly

Features of token i hold tokens <= i only, so the model is causal; W_rec is symmetric, so every
token has LoopedMLP's energy and plain centered EqProp is exact. dL/df = W_in^T a + W_skip^T e goes
on to autograd: EqProp inside the loop, backpropagation in what comes before it. f is a clamped
block of the hybrid's state: the readout sees it, no group of blocks moves it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.activations import tanh_from_scaled, tanh_gain
from eqprop_lab.equilibrium.state import Nudge, State, nudged
from eqprop_lab.models.language.attention import head_width
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.generation import Cache, settled
from eqprop_lab.models.language.tokens import Embedding, TokenModel
from eqprop_lab.models.language.transformer import Block, Blocks
from eqprop_lab.models.language.window import WINDOW, Window
from eqprop_lab.models.looped_mlp import LoopedMLP
from eqprop_lab.models.tanh import into_drive, scaled_force
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int


class LoopedTokens(TokenModel, LoopedMLP):
    """LoopedMLP on `features(x)` of every token, with the gradient of the features by autograd."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """f (B T, input_dim) of tokens (B, T), each from itself and those before it."""

    def _begun(self) -> None:
        """The features' parameters are there: from now on the closed forms of LoopedMLP hold."""
        self._own = True
        looped = {"W_in", "W_rec", "W_out", "W_skip"}
        self._feeding = [
            name for name, _ in self.named_parameters() if name.partition(".")[0] not in looped
        ]

    def drive(self, x: Tensor) -> State:
        return self.drive_from(self.features(x))

    def drive_from(self, features: Tensor) -> State:
        """The drive of features (N, input_dim)."""
        return LoopedMLP.drive(self, features)

    def logits_of(self, features: Tensor) -> Tensor:
        """(N, vocab_size) of features (N, input_dim), each settled by itself."""
        drive = self.drive_from(features)
        return self.readout(settled(self, self.initial_state(drive), drive))

    @torch.enable_grad()
    def features_of(self, x: Tensor, free: State) -> Tensor:
        """f (B T, input_dim) of a batch and its free state, with a graph."""
        return self.features(x)

    def feature_gradient(self, into: Tensor, error: Tensor) -> Tensor:
        """dL/df (B T, input_dim) from the cotangents of the drive and of the logits."""
        return into @ self.W_in.weight

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        """LoopedMLP's closed forms, and one autograd call through the features."""
        features = self.features_of(x, free)
        known = features.detach()
        found = LoopedMLP.parameter_gradients(self, known, cotangent, state, free, error, driven)
        held = {name: self.get_parameter(name) for name in self._feeding}
        trained = {name: p for name, p in held.items() if p.requires_grad}
        if trained:
            pull = self.feature_gradient(into_drive(cotangent[0], driven), error)
            grads = torch.autograd.grad(
                features, list(trained.values()), pull, materialize_grads=True, allow_unused=True
            )
            found |= dict(zip(trained, grads, strict=True))
        return found


class LoopedMLPForLM(LoopedTokens):
    """A loop of `hidden_dim` units on the last `window` tokens.

    Args: vocab_size, hidden_dim, embed_dim, window, integers >= 1; rho, max_steps, seed as in
        LoopedMLP.
    Shapes: tokens (B, T), any T -> logits (B, T, vocab_size); state ((B T, hidden_dim),).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 200,
        embed_dim: int = 16,
        window: int = WINDOW,
        rho: float = 0.9,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        length = positive_int("window", window)
        width = length * positive_int("embed_dim", embed_dim)
        with seeded(seed):
            symbols = positive_int("vocab_size", vocab_size)
            super().__init__(width, hidden_dim, symbols, rho=rho, max_steps=max_steps)
            self.vocab_size = self.output_dim
            self.window = Window(vocab_size, embed_dim, length)
        self._begun()

    def features(self, x: Tensor) -> Tensor:
        return self.window(x)

    @property
    def context_length(self) -> int:
        return self.window.length

    def begin(self, x: Tensor) -> tuple[Tensor, None]:
        return self.logits_of(self.features(x)[x.shape[1] - 1 :: x.shape[1]]), None


class HybridEqPropLM(LoopedTokens):
    """num_layers - 1 ordinary transformer blocks, and an equilibrium loop for the last layer.

    Args: vocab_size, hidden_dim, num_layers, num_heads, max_seq_len, integers >= 1, heads dividing
        the width; inner_dim, units of the loop (None: about 2.6 hidden_dim, which gives the number
        of parameters of a transformer with as many layers); rho, max_steps, seed as in LoopedMLP.
    Shapes: tokens (B, T), T <= max_seq_len -> logits (B, T, vocab_size); state: r (B T, inner_dim)
        and the clamped f (B T, hidden_dim).
    Raises: TypeError or ValueError naming the argument.
    """

    kappa = (1.0, 1.0)
    drive_with_graph = True
    inner_ratio = 2.6

    def __init__(
        self,
        vocab_size: int,
        hidden_dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        max_seq_len: int = 128,
        inner_dim: int | None = None,
        rho: float = 0.9,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        head_width(hidden_dim, num_heads)
        layers, longest = (
            positive_int("num_layers", num_layers), positive_int("max_seq_len", max_seq_len)
        )  # fmt: skip
        units = self.inner_width(inner_dim, hidden_dim)
        with seeded(seed):
            symbols = positive_int("vocab_size", vocab_size)
            super().__init__(hidden_dim, units, symbols, rho=rho, max_steps=max_steps)
            self.vocab_size, self.max_seq_len = self.output_dim, longest
            self.num_heads = num_heads
            self.W_skip = nn.Linear(hidden_dim, vocab_size, bias=False)
            self.embedding = Embedding(vocab_size, hidden_dim, longest)
            self.blocks = Blocks(
                *(Block(hidden_dim, num_heads, longest, 4 * hidden_dim) for _ in range(layers - 1))
            )
        self._begun()

    def features(self, x: Tensor) -> Tensor:
        return rms(self.blocks(self.embedding(x))).flatten(0, 1)

    def features_of(self, x: Tensor, free: State) -> Tensor:
        return free[1] if free[1].requires_grad else super().features_of(x, free)

    def drive_from(self, features: Tensor) -> State:
        return (*LoopedMLP.drive(self, features), features)

    def begin(self, x: Tensor) -> tuple[Tensor, Cache]:
        return self.extend(x, Cache())

    def extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        h, cache = self.blocks.cached(self.embedding(x, cache.tokens), cache)
        return self.logits_of(rms(h[:, -1])), cache

    def initial_state(self, drive: State) -> State:
        return self.activate(drive[0]), drive[1]

    def force(self, state: State, drive: State) -> State:
        """W_rec r + u; none on the clamped block."""
        return (*LoopedMLP.force(self, state[:1], drive), 0 * state[1])

    def step(
        self, state: State, drive: State, nudge: Nudge | None = None, out: State | None = None
    ) -> State:
        if out is None:
            return super(LoopedMLP, self).step(state, drive, nudge)
        gain = tanh_gain(out[0])
        a = scaled_force(out[0], state[0], drive[0], self._inward(), gain)
        if nudge is not None:
            a = nudged((a, state[1]), state, nudge, gain)[0]
        return tanh_from_scaled(a), state[1]

    def readout(self, state: State) -> Tensor:
        return LoopedMLP.readout(self, state) + self.W_skip(state[1])

    def readout_vjp(self, state: State, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return (cotangent @ self.W_out.weight, None)

    def add_pull(self, force: State, state: State, cotangent: Tensor, factor: float) -> State:
        return (*LoopedMLP.add_pull(self, force, state, cotangent, factor), force[1])

    def energy(self, state: State, drive: State) -> Tensor:
        """E of every token (B T,), as LoopedMLP's."""
        return LoopedMLP.energy(self, state[:1], drive[:1])

    def feature_gradient(self, into: Tensor, error: Tensor) -> Tensor:
        return into @ self.W_in.weight + error @ self.W_skip.weight

    def parameter_gradients(
        self,
        x: Tensor,
        cotangent: State,
        state: State,
        free: State,
        error: Tensor,
        driven: Sequence[bool] = (True,),
    ) -> dict[str, Tensor]:
        found = super().parameter_gradients(x, cotangent, state, free, error, driven)
        if self.W_skip.weight.requires_grad:
            found["W_skip.weight"] = error.T @ free[1].detach()
        return found
