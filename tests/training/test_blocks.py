"""Networks with equilibrium blocks under the trainer: blocks stay as they were built, but for what
the trainer is asked for, and an epoch counts batches, not blocks.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from eqprop_lab import ConvergenceWarning, EqPropTrainer, EquilibriumBlock, LoopedMLP
from eqprop_lab.equilibrium.contrast import Estimate, Gradients
from eqprop_lab.equilibrium.relaxation import Equilibrium
from eqprop_lab.training.settling import TOLD, Settling

X, Y = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def core(seed: int = 0, outputs: int = 5, **options: Any) -> LoopedMLP:
    return LoopedMLP(5, 8, outputs, seed=seed, **options)


def two(first: EquilibriumBlock, second: EquilibriumBlock) -> tuple[nn.Module, Any]:
    return nn.Sequential(first, second), (first, second)


def test_blocks_are_trained_as_they_were_built() -> None:
    net, blocks = two(
        EquilibriumBlock(core(), "response", free_steps=11, nudged_steps=7, solver="chebyshev"),
        EquilibriumBlock(core(1, 3, symmetric=False), beta=0.1, tol=1e-3),
    )
    built = [(block.estimator, block.settings) for block in blocks]
    trainer = EqPropTrainer(net)
    assert [(block.estimator, block.settings) for block in blocks] == built
    assert [built[0][0], built[1][0]] == ["response", "asymmetric"]
    # and says so, where a fit is resumed or logged too
    assert trainer.fit([(X, Y)], 1)["estimator"] == ["response, asymmetric"]
    told = trainer.describe()["blocks"]
    assert [(one["estimator"], one["free_steps"], one["beta"]) for one in told] == [
        ("response", 11, 0.03),
        ("asymmetric", 30, 0.1),
    ]


def test_what_the_trainer_is_asked_for_goes_for_all_blocks_and_for_this_training_only() -> None:
    net, blocks = two(
        EquilibriumBlock(core(), "response", free_steps=11), EquilibriumBlock(core(1, 3), beta=0.1)
    )
    built = [(block.estimator, block.settings) for block in blocks]
    asked = EqPropTrainer(net, nudged_steps=4, tol=1e-2)
    for block, (estimator, settings) in zip(blocks, built, strict=True):
        assert (block.settings.nudged_steps, block.settings.tol) == (4, 1e-2)
        assert (block.estimator, block.settings.beta) == (estimator, settings.beta)
    assert [block.settings.free_steps for block in blocks] == [11, 30]
    EqPropTrainer(net, "implicit", beta=0.2, free_steps=9, solver="damped")
    for block in blocks:
        found = block.settings
        assert (block.estimator, found.beta, found.free_steps) == ("implicit", 0.2, 9)
        assert (found.solver, found.nudged_steps, found.tol) == ("damped", 10, None)
    assert EqPropTrainer(net).gradient == "response, centered"
    assert [(block.estimator, block.settings) for block in blocks] == built
    same, _ = two(EquilibriumBlock(core()), EquilibriumBlock(core(1, 3)))
    told = EqPropTrainer(same).describe()
    assert told["gradient"] == "centered" and "blocks" not in told and asked.gradient != "centered"


def test_a_refused_value_leaves_the_block_as_it_was() -> None:
    block = EquilibriumBlock(core(outputs=3), "response", free_steps=11)
    before = block.settings
    with pytest.raises(ValueError, match="free_steps"):
        EqPropTrainer(nn.Sequential(block), "implicit", free_steps=0)
    with pytest.raises(ValueError, match="nudged_steps"):
        block.use("centered", nudged_steps=0)
    assert block.estimator == "response" and block.settings == before
    EqPropTrainer(nn.Sequential(block))
    assert block.estimator == "response" and block.settings == before


def test_an_epoch_counts_batches_not_blocks() -> None:
    net, _ = two(EquilibriumBlock(core()), EquilibriumBlock(core(1, 3)))
    trainer = EqPropTrainer(net, free_steps=1, nudged_steps=1, tol=1e-9)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.fit([(X, Y)] * 5, 1)
    texts = [str(w.message) for w in told if issubclass(w.category, ConvergenceWarning)]
    assert len(texts) == 1
    assert re.search(r"not converged to tol in 5 of 5 batches", texts[0]), texts


def found(error: float, missed: tuple[str, ...] = ()) -> Estimate:
    free = Equilibrium((X,), 1, error, False, error=error)
    return Estimate(Gradients(), free, X, error, missed=missed)


def test_a_batch_is_as_bad_as_its_worst_block() -> None:
    settling, bad = Settling(), 1.4 * TOLD
    for _ in range(2):
        with settling.batch():
            for error in (0.0, bad, 0.0):
                settling.note(found(error))
    with pytest.warns(ConvergenceWarning, match=f"the gradient {bad:.0%} off"):
        settling.warn(1)
    assert settling.residual == bad
    with settling.batch():  # one good batch more, and the mean is below the limit
        settling.note(found(0.0))
    settling.warn(2)
    with settling.batch():
        settling.note(found(0.0, ("missed",)))
        settling.note(found(0.0, ("missed",)))
    with pytest.warns(ConvergenceWarning, match="to tol in 1 of 4 batches"):
        settling.warn(3)
