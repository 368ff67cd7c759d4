"""Pins that choose what they read: hard forward, the formulas of the text backward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import Split
from eqprop_lab.lut import SimpleFeedForward, learned_wiring
from eqprop_lab.lut.learned_wiring import LearnedWiring
from eqprop_lab.lut.wiring import FixedWiring
from tests.lut.pieces import X, model

GENERATOR = torch.Generator().manual_seed(0)
TAU = 0.3


def wiring(few: bool) -> LearnedWiring:
    """Three nodes of two pins that read five inputs, all of them or two each."""
    candidates = torch.stack([torch.randperm(5)[:2] for _ in range(6)]) if few else None
    scores = torch.rand(6, 2 if few else 5, generator=GENERATOR, dtype=torch.float64)
    return LearnedWiring((2, 3), scores, candidates, TAU)


def read(made: LearnedWiring, pin: int, number: int) -> int:
    return number if made.candidates is None else int(made.candidates[pin, number])


@pytest.mark.parametrize("few", [False, True])
def test_a_pin_reads_its_best_candidate(few: bool) -> None:
    made, x = wiring(few), torch.rand(5, 4, dtype=torch.float64)
    best = [read(made, pin, int(made.scores[pin].argmax())) for pin in range(6)]
    assert made.indices().flatten().tolist() == best
    assert torch.equal(made(x), x[best].view(2, 3, 4))
    with torch.no_grad():
        assert torch.equal(made(x), x[best].view(2, 3, 4))


@pytest.mark.parametrize("few", [False, True])
def test_gradients_are_those_of_the_text(few: bool) -> None:
    made = wiring(few)
    x = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    outer = torch.rand(2, 3, 4, dtype=torch.float64)
    by_x, by_scores = torch.autograd.grad(made(x), (x, made.scores), outer)
    wanted_x, wanted = torch.zeros_like(x), torch.zeros_like(made.scores)
    shares: Tensor = torch.softmax(made.scores / TAU, 1)
    for pin, g in enumerate(outer.view(6, 4)):
        for number in range(made.scores.shape[1]):
            source = read(made, pin, number)
            wanted[pin, number] = (g * (2 * x[source] - 1)).sum()
            wanted_x[source] += g * shares[pin, number]
    torch.testing.assert_close(by_scores, wanted)
    torch.testing.assert_close(by_x, wanted_x)


@pytest.mark.parametrize("kind", ["learnable", "topk"])
def test_wiring_moves_in_training_and_evaluation_reads_the_same(kind: str) -> None:
    made = model(layer_type=kind, node_type="dwn", node_config={"sign": True})
    before = [layer.wiring.indices().clone() for layer in made.layers]
    trainer = EqPropTrainer(made, "autograd", lr=0.05, progress=False)
    trainer.fit(Split(X, torch.arange(len(X)) % 3).batches(20), 8)
    after = [layer.wiring.indices() for layer in made.layers]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with torch.no_grad():  # bits in, bits out: training and evaluation are one function
        assert torch.equal(made.train()(X), made.eval()(X))


def test_candidates_of_a_node_are_different_inputs() -> None:
    made = model(layer_type="topk", layer_config={"candidates": 3})
    wired = made.layers[0].wiring
    assert wired.scores.shape == (4 * 20, 3)
    by_node = wired.candidates.view(4, 20, 3).permute(1, 0, 2).flatten(1)
    assert all(len(set(node.tolist())) == 12 for node in by_node)


@pytest.mark.parametrize("kind", ["learnable", "topk"])
def test_only_the_first_layers_learn(kind: str) -> None:
    made = model(layer_type=kind, layer_config={"learned_layers": 1})
    learned, drawn = made.layers
    assert isinstance(learned.wiring, LearnedWiring) and isinstance(drawn.wiring, FixedWiring)
    same = model().layers[1].wiring.indices()  # those of `random`, of the same seed
    assert torch.equal(drawn.wiring.indices(), same)
    with pytest.raises(ValueError, match="learned_layers"):
        model(layer_type=kind, layer_config={"learned_layers": 0})


def test_fixed_wiring_is_what_was_read_and_travels_with_the_weights(tmp_path: Path) -> None:
    made = model(layer_type="topk")
    fixed, before = made.with_fixed_wiring(), made.state_dict()
    for one, other in zip(made.layers, fixed.layers, strict=True):
        assert torch.equal(one.wiring.indices(), other.wiring.indices().long())
    with torch.no_grad():
        assert torch.equal(made.eval()(X), fixed.eval()(X))
        made.layers[0].wiring.scores.neg_()
        assert not torch.equal(made(X), fixed(X))
    assert made.config.layer_type == "topk" and made.state_dict().keys() == before.keys()
    fixed.save_weights(str(tmp_path / "fixed.pth"))
    again = SimpleFeedForward(fixed.get_config())
    again.load_weights(str(tmp_path / "fixed.pth"))
    with torch.no_grad():
        assert torch.equal(again.eval()(X), fixed(X))
    assert again.config.layer_type == "fixed" and again.config.layer_config == {}
    drawn = model()  # pins of `random` are those of the file too
    assert drawn.config.is_compatible_with_weights(fixed.config)
    drawn.load_weights(str(tmp_path / "fixed.pth"))
    with torch.no_grad():
        assert torch.equal(drawn.eval()(X), fixed(X))
    assert not made.config.is_compatible_with_weights(fixed.config)
    with pytest.raises(ValueError, match="layer_type is 'fixed' there, 'topk'"):
        made.load_weights(str(tmp_path / "fixed.pth"))


def test_more_scores_than_can_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_wiring, "MOST", 1000)
    with pytest.raises(ValueError, match="80 pins with 36 candidates .* 'topk'"):
        model(layer_type="learnable")
    model(layer_type="topk")


@pytest.mark.parametrize(
    ("config", "words"),
    [({"candidates": 0}, "candidates"), ({"tau": 0.0}, "tau"), ({"k": 3}, "key of layer_config")],
)
def test_arguments_of_a_wiring(config: dict[str, float], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        model(layer_type="topk", layer_config=config)
