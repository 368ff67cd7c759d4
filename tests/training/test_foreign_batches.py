"""Loaders of all kinds: taken where their meaning is plain, else refused with epoch, batch and what
came instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    EqPropTrainer,
    EquilibriumBlock,
    LoopedMLP,
    check_gradient,
    estimate_gradients as estimate,
)
from eqprop_lab.training import BatchError

X, Y = (
    torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 1, 0, 2]),
)
SOFT = torch.nn.functional.one_hot(Y, 3).float()


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Samples without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


def eqprop(**options: Any) -> EqPropTrainer:
    return EqPropTrainer(
        LoopedMLP(64, 5, 3, seed=0, max_steps=5), lr=0.1, optimizer="sgd", **options
    )


def backprop(**options: Any) -> EqPropTrainer:
    return EqPropTrainer(BackpropMLP(64, 5, 3, seed=0), "autograd", "sgd", lr=0.1, **options)


TRAINERS = pytest.mark.parametrize("make", [eqprop, backprop])
SAME: dict[str, Callable[[], Any]] = {
    "list": lambda: [[X, Y]],
    "numpy": lambda: [(X.numpy(), Y.numpy())],
    "numpy read-only": lambda: [(np.broadcast_to(X.numpy(), X.shape), Y.numpy())],
    "numbers": lambda: [(X.tolist(), Y.tolist())],
    "mapping": lambda: [{"y": Y, "x": X}],
    "DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=6),
    "stream": lambda: DataLoader(Stream(), batch_size=6),
    "generator": lambda: (batch for batch in [(X, Y)]),
}


@TRAINERS
@pytest.mark.parametrize("kind", SAME)
def test_the_same_batch_in_another_form_trains_the_same(
    make: Callable[..., EqPropTrainer], kind: str
) -> None:
    plain, other = make(), make()
    expected, got = plain.fit([(X, Y)], 1), other.fit(SAME[kind](), 1)
    assert got["train_loss"] == expected["train_loss"]
    for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert other.evaluate(SAME[kind]()) == plain.evaluate([(X, Y)])


REFUSED: dict[str, tuple[Any, str]] = {
    "fewer targets": ((X, Y[:3]), "y must have one target per sample: x holds 6, y has shape"),
    "more targets": ((X[:1], Y), "y must have one target per sample: x holds 1, y has shape"),
    "one soft target for all": ((X, SOFT[:1]), "y must have one target per sample"),
    "one sample, many soft targets": ((X[:1], SOFT), "y must have one target per sample"),
    "a target without a batch": ((X[0], Y[0]), "x|y must have one target per sample"),
    "no sample": ((X[:0], Y[:0]), "at least one"),
    "NaN targets": (
        (X, torch.where(SOFT > 0, torch.nan, SOFT)),
        "y with float targets must be finite",
    ),
    "infinite targets": ((X, SOFT / 0), "y with float targets must be finite"),
    "columns": ((X, SOFT[:, :2]), "y with float targets must have shape"),
    "labels as a column": ((X, Y[:, None]), "y must be class indices"),
    "labels too large": ((X, Y + 1), "y must hold class indices"),
    "truth values": ((X, Y > 0), "y must be class indices"),
    "float64": ((X.double(), Y), "dtype"),
    "NaN inputs": ((X / 0 * 0, Y), "NaN"),
    "triple": ((X, Y, Y), "pair .* got 3 parts"),
    "alone": ((X,), "pair .* got 1 parts"),
    "a tensor of two": (X[:2], "pair .* got a Tensor of shape"),
    "other keys": ({"image": X, "label": Y}, r"mapping with the keys \['image', 'label'\]"),
    "nothing": (None, "pair .* got a NoneType"),
    "a text": ("xy", "pair .* got a str"),
    "texts": (("x", "y"), "x must be a tensor"),
    "ragged": (([[1.0], [1.0, 2.0]], Y), "x must be a tensor"),
    "a number": ((1.0, 0), "x must hold a batch|y must have one|dtype|features"),
}


@TRAINERS
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_batch_is_named(make: Callable[..., EqPropTrainer], kind: str) -> None:
    item, message = REFUSED[kind]
    trainer = make()
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(BatchError, match=f"epoch 1, batch 1: .*({message})"):
        trainer.fit([item], 1)
    with pytest.raises(BatchError, match=f"evaluation, batch 2: .*({message})"):
        trainer.evaluate([(X, Y), item])
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "estimator", ["one_sided", "centered", "holomorphic", "response", "implicit", "bptt"]
)
@pytest.mark.parametrize(
    "kind", ["fewer targets", "more targets", "one soft target for all", "NaN targets", "no sample"]
)
def test_the_estimators_look_at_the_pair_too(estimator: str, kind: str) -> None:
    (x, y), message = REFUSED[kind]
    for model in (LoopedMLP(64, 5, 3, seed=0), ConvEqProp(1, 3, 3, image_size=8, seed=0)):
        for look in (estimate, check_gradient):
            with pytest.raises(ValueError, match=message):
                look(model, x, y, estimator)


@pytest.mark.parametrize(
    "x", [torch.tensor(1.0), torch.zeros(0, 64), torch.full((2, 64), torch.nan), [[1.0] * 64]]
)
def test_a_block_looks_at_its_input(x: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="x "):
        EquilibriumBlock(LoopedMLP(64, 5, 3, seed=0))(x)


def test_targets_elsewhere_are_named() -> None:
    with pytest.raises(ValueError, match="y is on meta, x on cpu: move one of them"):
        estimate(LoopedMLP(64, 5, 3, seed=0), X, Y.to("meta"))


@TRAINERS
def test_a_loader_must_last_for_all_epochs(make: Callable[..., EqPropTrainer]) -> None:
    with pytest.raises(
        ValueError, match="train_loader must be something that can be gone through 2 times"
    ):
        make().fit((batch for batch in [(X, Y)]), 2)
    with pytest.raises(
        ValueError, match="val_loader must be something that can be gone through 2 times"
    ):
        make().fit([(X, Y)], 2, iter([(X, Y)]))  # type: ignore[arg-type]
    for nothing in (None, 3, mlp_batch):
        with pytest.raises(TypeError, match="train_loader must yield batches"):
            make().fit(nothing, 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="loader must yield batches"):
            make().evaluate(nothing)  # type: ignore[arg-type]


def mlp_batch() -> None:
    """A function that somebody forgot to call."""


def test_a_stream_has_no_length_for_a_schedule() -> None:
    with pytest.raises(
        TypeError, match="schedule='cosine' needs a train_loader with a length, got DataLoader"
    ):
        eqprop(schedule="cosine").fit(DataLoader(Stream(), batch_size=2), 3)


class Liar(list[Any]):
    """A loader that says it has ten batches."""

    def __len__(self) -> int:
        return 10


def test_a_loader_shorter_than_it_says_is_named_where_a_schedule_rests_on_it() -> None:
    assert eqprop().fit(Liar([(X, Y)]), 1).epochs == 1
    with pytest.raises(BatchError, match="epoch 1: train_loader said it had 10 batches and gave 1"):
        eqprop(schedule="cosine").fit(Liar([(X, Y)]), 1)


@pytest.mark.parametrize(
    "returned", [lambda x: x.flatten(1)[:, 0], lambda x: x.flatten(1)[:3], lambda x: (x, x)]
)
def test_a_module_must_return_logits(returned: Callable[[Tensor], Any]) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Any:
            return returned(self.scale * x)

    trainer = EqPropTrainer(Odd(), "autograd")
    for use in (lambda: trainer.fit([(X, Y)], 1), lambda: trainer.evaluate([(X, Y)])):
        with pytest.raises(BatchError, match="model must return logits"):
            use()


@pytest.mark.parametrize("gradient", ["centered", "response", "autograd"])
def test_a_model_that_torch_has_compiled_trains_as_itself(gradient: str, tmp_path: Any) -> None:
    kind = BackpropMLP if gradient == "autograd" else LoopedMLP
    plain, wrapped = kind(64, 5, 3, seed=0), kind(64, 5, 3, seed=0)
    other = EqPropTrainer(torch.compile(wrapped, backend="eager"), gradient)  # type: ignore[arg-type]
    own = EqPropTrainer(plain, gradient)
    assert own.fit([(X, Y)], 2)["train_loss"] == other.fit([(X, Y)], 2)["train_loss"]
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True)
    )
    # One kind of checkpoint: the wrapper leaves no trace in the names.
    own.load_checkpoint(other.save_checkpoint(tmp_path / "x.pt"))
    if gradient != "autograd":
        compiled = torch.compile(wrapped, backend="eager")
        expected, got = estimate(wrapped, X, Y, gradient), estimate(compiled, X, Y, gradient)  # type: ignore[arg-type]
        assert all(torch.equal(expected[name], got[name]) for name in expected)
        EquilibriumBlock(compiled, gradient)(X).sum().backward()  # type: ignore[arg-type]
        assert wrapped.W_out.weight.grad is not None
