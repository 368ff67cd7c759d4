"""What the tests of language models share: every model small, and one batch of three windows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from eqprop_lab import EqPropTrainer
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM, Retrieval
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM

V, D, T, B = 11, 16, 9, 3
MODELS: dict[str, Callable[[], nn.Module]] = {
    "full": lambda: FullEqPropLM(V, D, 3, 4, T, inner_dim=24, seed=0),
    "recurrent_core": lambda: RecurrentEqPropLM(V, D, 4, T, inner_dim=24, seed=0),
    "hybrid": lambda: HybridEqPropLM(V, D, 2, 4, T, inner_dim=20, seed=0),
    "looped_mlp": lambda: LoopedMLPForLM(V, 20, 6, window=4, seed=0),
    "attention_only": lambda: EqPropAttentionOnlyLM(V, D, 2, 4, T, inner_dim=24, seed=0),
    "transformer": lambda: BackpropTransformerLM(V, D, 2, 4, T, inner_dim=24, seed=0),
    "window": lambda: BackpropWindowLM(V, 20, 6, window=4, seed=0),
}
WHOLE = ("full", "recurrent_core", "hybrid", "looped_mlp")  # one equilibrium is the whole model
DIRECTED, ENERGETIC = WHOLE[:2], WHOLE[2:]
VARIANTS = (*WHOLE, "attention_only")
TWINS = ("transformer", "window")


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


TEXT = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(0))
X, Y = TEXT[:, :-1], TEXT[:, 1:]


def equilibrium(name: str) -> EquilibriumModel:
    """A new model in float64."""
    model = MODELS[name]().double()
    assert isinstance(model, EquilibriumModel)
    return model


def cores(model: nn.Module) -> list[Retrieval]:
    """The equilibria inside attention_only."""
    return [module for module in model.modules() if isinstance(module, Retrieval)]


@cache
def _after(name: str, steps: int, lr: float, double: bool) -> nn.Module:
    model = MODELS[name]()
    trainer = EqPropTrainer(model.double() if double else model, gradient_of(name), lr=lr)
    for _ in range(steps):
        trainer.train_batch(X, Y)
    return model


def trained(name: str, steps: int = 10, lr: float = 0.02, double: bool = False) -> nn.Module:
    """A model of its own after some steps on the batch."""
    return copy.deepcopy(_after(name, steps, lr, double)).eval()


def gradient_of(name: str) -> str | None:
    """As a trainer takes it: None, the variant's own, but for twins."""
    return "autograd" if name in TWINS else None
