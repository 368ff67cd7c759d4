"""The gap between soft and hard, by computing it the slow way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eqprop_lab.lut.gap import discretisation_gap
from eqprop_lab.lut.nodes.base import look_up
from tests.lut.pieces import X, model

Y = torch.randint(3, (len(X),), generator=torch.Generator().manual_seed(1))


def test_accuracies_layer_by_layer() -> None:
    made = model(layer_widths=[40, 20, 12])
    report = discretisation_gap(made, X, Y)

    def right(hard: set[int]) -> float:
        rows = made.encode(X).t()
        for number, layer in enumerate(made.lut_layers()):
            pins = rows[layer.wiring.indices().long()]
            table = torch.sigmoid(layer.nodes.theta)
            rows = layer.nodes.soft(pins, 1.0)
            if number in hard:
                rows = look_up(pins, (table >= 0.5).float())
        return float((made.head(rows.t()).argmax(1) == Y).double().mean())

    with torch.no_grad():
        assert report.soft == right(set()) and report.hard == right({0, 1, 2})
        for number, layer in enumerate(report.layers):
            assert layer.alone == right({number})
            assert layer.up_to == right(set(range(number + 1)))
    assert len({layer.alone for layer in report.layers} | {report.soft, report.hard}) > 2
    assert made.training and made.runtime.eval_mode == "threshold"


def test_how_undecided_tables_are() -> None:
    made = model(layer_widths=[3], node_input_dim=2)
    logits = torch.tensor([[0.0, 0.3, 0.5, 9.0]] * 3)
    made.layers[0].nodes.set_logits(logits)
    (layer,) = discretisation_gap(made, X, Y).layers
    chances = [1 / (1 + math.exp(-z)) for z in logits[0].tolist()]
    assert layer.ambiguous == sum(abs(p - 0.5) < 0.1 for p in chances) / 4 == 0.5
    bits = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in chances]
    assert layer.entropy == pytest.approx(sum(bits) / 4, abs=1e-4)


def test_decided_tables_have_no_gap_and_margins_are_those_of_the_hard_network() -> None:
    made = model()
    for layer in made.lut_layers():
        layer.nodes.set_logits(100 * (layer.nodes.bits().float() - 0.5))
    report = discretisation_gap(made, X, Y)
    assert report.soft == report.hard and report.agreement == 1
    assert all(layer.entropy < 1e-12 and layer.ambiguous == 0 for layer in report.layers)
    ranked = made.eval()(X).sort(1, descending=True).values
    assert torch.equal(report.margins, ranked[:, 0] - ranked[:, 1])
    assert "same answers 100.00%" in str(report) and len(str(report).splitlines()) == 4
    assert [line.split()[0] for line in str(report).splitlines()[2:]] == ["1", "2"]


def test_what_has_no_gap() -> None:
    with pytest.raises(TypeError, match="model must be a BaseLUTModel"):
        discretisation_gap(nn.Linear(2, 2), X, Y)  # type: ignore[arg-type]
    for x, y in ((X, Y[:3]), (X[:0], Y[:0])):
        with pytest.raises(ValueError, match="y must hold a class"):
            discretisation_gap(model(), x, y)
