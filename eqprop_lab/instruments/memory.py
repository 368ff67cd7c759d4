"""How much tensor memory a training step takes: a timeline, extrapolated to any batch.

    live_t(B) = a_t + b_t B,      peak(B) = max_t live_t(B)

Every moment of a training step is affine in the batch, so the timelines of two tiny batches give
the peak of a large one, for any model and estimator, without a formula per model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.acceleration import uncompile_model
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.instruments.live_bytes import MemoryTimeline, storages
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.validation import arguments, known_keys, positive_int, shape

MIB = 2**20
# batches that are measured; one sample alone may take other paths (vectors instead of matrices)
PROBES = (2, 4)
# pairs: following sigma's vectors takes a round more or less, as the weights have moved
ATTEMPTS = 8
# arguments of the trainer that are no options here
OURS = {"model", "gradient", "optimizer", "progress"}


def tensor_bytes(tensors: Any) -> int:
    """Bytes of all distinct storages among the tensors of a nested structure."""
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages(tensors)}.values())


def _held(trainer: EqPropTrainer) -> dict[str, list[Any]]:
    """What a trainer keeps from step to step."""
    model = trainer.model
    return {
        "parameters": [*model.parameters(), *model.buffers()],
        "gradients": [p.grad for p in model.parameters()],
        "optimizer": [list(state.values()) for state in trainer.optimizer.state.values()],
    }


def _timeline(
    trainer: EqPropTrainer, shape: tuple[int, ...], batch: int, dtype: torch.dtype
) -> list[int]:
    with MemoryTimeline(_held(trainer)) as timeline:
        trainer.train_batch(*_batch(trainer.model, shape, batch, dtype))
    return timeline.live


def _batch(
    model: nn.Module, shape: tuple[int, ...], batch: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Inputs of zeros and labels; of a model of tokens, windows and what comes after them."""
    if getattr(model, "vocab_size", None) is not None:
        windows = torch.zeros(batch, *shape, dtype=torch.int64, device="cpu")
        if getattr(model, "num_classes", None) is None:
            return windows, windows
        return windows, windows[:, 0]
    x = torch.zeros(batch, *shape, dtype=dtype, device="cpu")
    y = torch.arange(batch, device="cpu") % getattr(model, "output_dim", 2)
    return x, y.to(torch.int64)


def estimate_memory_usage(
    model: nn.Module,
    input_shape: Sequence[int],
    batch_size: int = 1,
    gradient: str | None = None,
    optimizer: Any = "adam",
    **options: Any,
) -> dict[str, float]:
    """Tensor memory of one training step at its peak, in MiB, by what it holds.

        total = parameters + gradients + optimiser + states

    A copy of the model on the CPU takes a few steps with 2 and 4 samples; the peak of `batch_size`
    follows (module text). The model itself, its gradients and the global generators are left alone.
    The copy and its optimiser need memory for four to five times the parameters while this runs.

    Args:
        model: any module the trainer can train. input_shape: one sample, without the batch: (784,),
            (1, 28, 28), or (64,) for windows of 64 tokens.
        gradient: an estimator or "autograd"; None: "centered" for equilibrium models, "autograd"
        for others. optimizer and further options (`free_steps`, `nudged_steps`, `cost`, ...): as in
        EqPropTrainer, without `tol`.
    Returns: {"parameters_mb" (buffers included), "gradients_mb", "optimizer_mb", "states_mb" (all
        the rest that is alive at the peak: the batch, states, activations, temporaries),
        "total_mb"}.
    Raises: TypeError, ValueError naming the argument.
    """
    sample = shape("input_shape", input_shape)
    batch = positive_int("batch_size", batch_size)
    known_keys("the options", options, (arguments(EqPropTrainer) or {}).keys() - OURS)
    if options.get("tol") is not None:
        raise ValueError(
            "tol must be None: with a tolerance the steps, and with them the memory, "
            "depend on the data"
        )
    if gradient is None:
        gradient = "centered" if isinstance(model, EquilibriumModel) else "autograd"
    with torch.random.fork_rng(devices=[]):
        twin = uncompile_model(copy.deepcopy(model)).cpu().train()
        trainer = EqPropTrainer(twin, gradient, optimizer, progress=False, **options)
        dtype = next(twin.parameters()).dtype
        # The first step makes what every later one finds: gradients and the optimiser's moments.
        _timeline(trainer, sample, PROBES[0], dtype)
        parts = {name: tensor_bytes(tensors) for name, tensors in _held(trainer).items()}
        for _ in range(ATTEMPTS):
            small, large = (_timeline(trainer, sample, size, dtype) for size in PROBES)
            if len(small) == len(large):
                break
    if len(small) != len(large):
        raise ValueError(
            "model must run the same operations for every batch size "
            "for its memory to be extrapolated"
        )
    slope = PROBES[1] - PROBES[0]
    total = max(
        a + (b - a) / slope * (batch - PROBES[0]) for a, b in zip(small, large, strict=True)
    )
    states = total - sum(parts.values())
    megabytes = {f"{name}_mb": size / MIB for name, size in {**parts, "states": states}.items()}
    return {**megabytes, "total_mb": total / MIB}
