"""Each check of the networks beside the looped ones fails when what it checks is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab.algorithms import BioplausibleModel
from eqprop_lab.commands import verify_networks as verify
from eqprop_lab.models.equilibrium_chain import HopfieldBlock
from eqprop_lab.models.lut_network import LUTNetwork
from eqprop_lab.models.predictive_layer import PredictiveLayer
from eqprop_lab.training import EqPropTrainer

CHECKS = (verify.check_predictive, verify.check_rules, verify.check_tables)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_networks_that_are_not_trained_fail(
    check: Callable[[], verify.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EqPropTrainer, "fit", lambda *_, **__: {})
    ok, line = check()
    assert not ok and "accuracy" in line


def test_errors_handed_down_too_large_fail_predictive_coding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = PredictiveLayer.pull
    monkeypatch.setattr(PredictiveLayer, "pull", lambda *given: 1.01 * real(*given))
    ok, line = verify.check_predictive()
    assert not ok and "from backprop (limit 1e-10)" in line


def test_a_nudge_between_blocks_that_is_too_strong_fails_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = HopfieldBlock.readout_vjp
    monkeypatch.setattr(
        HopfieldBlock, "readout_vjp", lambda self, state, v: real(self, state, 1.01 * v)
    )
    ok, line = verify.check_blocks()
    assert not ok and "gradient error of two blocks" in line


def test_a_rule_that_leaves_the_gradient_fails_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BioplausibleModel.local_gradients

    def turned(self: BioplausibleModel, x: Tensor, y: Tensor) -> Any:
        found = real(self, x, y)
        if self.algorithm == "backprop":
            found["rule.layers.0.weight"] *= 1.001
        return found

    monkeypatch.setattr(BioplausibleModel, "local_gradients", turned)
    ok, line = verify.check_rules()
    assert not ok and "backprop's gradient error" in line


def test_tables_that_say_otherwise_fail_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LUTNetwork.truth_tables

    def swapped(self: LUTNetwork) -> list[Tensor]:
        first, *rest = real(self)
        return [torch.cat([~first[:1], first[1:]]), *rest]

    monkeypatch.setattr(LUTNetwork, "truth_tables", swapped)
    ok, line = verify.check_tables()
    assert not ok and "from the tables' votes" in line
