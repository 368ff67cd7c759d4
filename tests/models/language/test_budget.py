"""Budgets are met within 2 %, whatever the variant; counts are those of the models themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab import (
    FullEqPropLM,
    count_parameters,
    create_eqprop_lm,
    get_eqprop_lm,
    list_eqprop_lm_variants,
    register_eqprop_lm,
)
from eqprop_lab.models.language import EQPROP_LM_REGISTRY
from eqprop_lab.models.language.budget import TOLERANCE, _Widths, within_budget
from eqprop_lab.models.registry import model_registry

WINDOWED = ("looped_mlp", "BackpropWindowLM")
LAYERED = ("full", "attention_only", "hybrid", "BackpropTransformerLM")
ALL = (*LAYERED, "recurrent_core", *WINDOWED)


def transformer_block(d: int, m: int, heads: int, longest: int) -> int:
    return 4 * d**2 + 2 * d * m + m + d + 2 * d + heads * longest


def by_hand(name: str, V: int, L: int, H: int, T: int, d: int, m: int) -> int:
    """Matrix by matrix, as in the definitions of the models; nothing here is built."""
    if name in WINDOWED:  # d the embedding, m the loop
        return (V + 1) * d + 16 * d * m + m + m**2 + m + m * V + V
    embedding, readout = (V + T) * d, d * V + V
    if name == "BackpropTransformerLM":
        return embedding + L * transformer_block(d, m, H, T) + d + readout
    if name == "hybrid":
        blocks = (L - 1) * transformer_block(d, 4 * d, H, T)
        return embedding + blocks + d * m + m + m**2 + m + m * V + V + d * V
    if name == "attention_only":
        return embedding + L * (3 * d**2 + 2 * d * m + m + d + H * T) + readout
    if name == "recurrent_core":
        return embedding + d + 4 * d**2 + H * T + 2 * d * m + m + readout
    layers = L * (d + 4 * d**2 + H * T + m * d + m) + (L - 1) * d**2
    return embedding + layers + L * d * V + V


def arguments(name: str, heads: int = 4, layers: int = 2) -> dict[str, Any]:
    found: dict[str, Any] = {"vocab_size": 65}
    if name not in WINDOWED:
        found |= {"num_heads": heads, "max_seq_len": 64, "hidden_dim": 64}
    if name in LAYERED:
        found |= {"num_layers": layers}
    return found


def widths(name: str, **given: Any) -> _Widths:
    return _Widths(
        EQPROP_LM_REGISTRY if name in EQPROP_LM_REGISTRY else model_registry, name, given
    )


@pytest.mark.parametrize("heads", [2, 4, 8])
@pytest.mark.parametrize("name", ALL)
def test_budgets_from_15_thousand_to_10_million_are_met(name: str, heads: int) -> None:
    layers = 3 if heads == 8 else 2
    counting = widths(name, **arguments(name, heads, layers))
    for target in np.geomspace(15_000, 10_000_000, 60).astype(int):
        d, m = counting.meeting(int(target), "")
        found = by_hand(name, 65, layers, heads, 64, d, m)
        assert abs(found / target - 1) <= TOLERANCE and d % counting.step == 0
        # proportions stay within a factor of 4 of those that were given
        start = counting.start[1] / counting.start[0]
        assert start / 4 < m / d < 4 * start, (target, d, m)


@pytest.mark.parametrize("name", ALL)
def test_the_count_is_that_of_the_model(name: str) -> None:
    given = arguments(name)
    counting = widths(name, **given)
    outer, inner = counting.names
    for d, m in ((4, 1), (8, 5), (24, 31), (64, 100)):
        registry = EQPROP_LM_REGISTRY if name in EQPROP_LM_REGISTRY else model_registry
        model = registry.create(name, **{**given, outer: d, inner: m})
        truth = sum(p.numel() for p in model.parameters())
        assert truth == counting.count(d, m) == by_hand(name, 65, 2, 4, 64, d, m)


@pytest.mark.parametrize("name", ALL)
def test_a_model_of_112_thousand_parameters(name: str) -> None:
    model = within_budget(name, 112_000, **arguments(name) | {"seed": 0})
    assert abs(count_parameters(model) / 112_000 - 1) < 0.005
    assert model(torch.zeros(1, 5, dtype=torch.long)).shape == (1, 5, 65)


@pytest.mark.parametrize("name", list_eqprop_lm_variants())
def test_scale_one_is_the_model_of_the_arguments_itself(name: str) -> None:
    layers = {"num_layers": 2} if name in LAYERED else {}
    model = create_eqprop_lm(name, 65, hidden_dim=32, seed=3, **layers)
    plain = get_eqprop_lm(name, vocab_size=65, hidden_dim=32, seed=3, **layers)
    pairs = zip(model.state_dict().values(), plain.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for scale in (0.5, 3):
        scaled = create_eqprop_lm(name, 65, hidden_dim=32, scale=scale, **layers)
        ratio = count_parameters(scaled) / count_parameters(plain)
        assert abs(ratio / scale - 1) <= TOLERANCE


def test_a_number_of_layers_means_something_or_is_refused() -> None:
    for name in list_eqprop_lm_variants():
        if name in LAYERED:
            four = count_parameters(create_eqprop_lm(name, 65, hidden_dim=16))
            given = [create_eqprop_lm(name, 65, hidden_dim=16, num_layers=n) for n in (2, 4)]
            assert count_parameters(given[0]) < count_parameters(given[1]) == four
            continue
        one = create_eqprop_lm(name, 65, hidden_dim=16, num_layers=1)
        assert count_parameters(one) == count_parameters(create_eqprop_lm(name, 65, hidden_dim=16))
        refused = f"num_layers must be 1, or left out: {name} has one layer.* got 2"
        with pytest.raises(ValueError, match=refused):
            create_eqprop_lm(name, 65, hidden_dim=16, num_layers=2)


def test_a_width_that_is_given_is_held() -> None:
    model = within_budget("full", 112_000, vocab_size=65, hidden_dim=64, num_layers=2)
    assert isinstance(model, FullEqPropLM) and model.hidden_dim == 64
    # a memory has L (d + 1) parameters
    assert abs(count_parameters(model) - 112_000) <= 2 * 65
    narrow = within_budget("full", 117_000, vocab_size=65, inner_dim=8, num_layers=2)
    assert isinstance(narrow, FullEqPropLM) and narrow.inner_dim == 8
    assert abs(count_parameters(narrow) / 117_000 - 1) <= TOLERANCE
    # from one width to the next, 4 heads on, are 4 %
    with pytest.raises(ValueError, match="got 112000; the smallest from there on is 116785 "):
        within_budget("full", 112_000, vocab_size=65, inner_dim=8, num_layers=2)


def test_nothing_but_the_seed_decides_the_weights_and_the_generator_stays() -> None:
    before = torch.get_rng_state()
    one = within_budget("hybrid", 9000, vocab_size=9, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    two = within_budget("hybrid", 9000, vocab_size=9, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_a_budget_too_small_is_refused_with_the_smallest_there_is(name: str) -> None:
    given = {key: value for key, value in arguments(name).items() if key != "hidden_dim"}
    step = 1 if name in WINDOWED else 4
    least = by_hand(name, 65, 2, 4, 64, step, 1)
    with pytest.raises(ValueError, match=f"parameters must be .*got 100; the smallest .* {least} "):
        within_budget(name, 100, **given)
    assert count_parameters(within_budget(name, least, **given)) == least


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(
        ValueError, match="scale must give .* a full can have, .*got 0; the smallest"
    ):
        create_eqprop_lm("full", 65, hidden_dim=8, num_layers=1, scale=1e-4)
    with pytest.raises(ValueError, match="scale must be a finite number > 0, got 0"):
        create_eqprop_lm("full", 65, scale=0)
    with pytest.raises(ValueError, match="scale x parameters must be an integer"):
        create_eqprop_lm("full", 65, hidden_dim=8, scale=1e300)
    with pytest.raises(ValueError, match="did you mean 'max_seq_len'"):
        create_eqprop_lm("full", 65, max_seq_length=8)
    with pytest.raises(ValueError, match="variant must be one of .*did you mean 'hybrid'"):
        create_eqprop_lm("hybrd", 65)
    with pytest.raises(ValueError, match="num_heads must divide hidden_dim"):
        create_eqprop_lm("full", 65, hidden_dim=9)
    with pytest.raises(ValueError, match="hidden_dim and inner_dim must not both be given"):
        within_budget("full", 9000, vocab_size=65, hidden_dim=8, inner_dim=8)
    with pytest.raises(TypeError, match="LoopedMLP must take hidden_dim and inner_dim"):
        within_budget("LoopedMLP", 9000, input_dim=3, hidden_dim=8, output_dim=2)


@pytest.fixture
def cubic() -> Iterator[str]:
    @register_eqprop_lm("cubic")
    class Cubic(nn.Module):
        def __init__(self, vocab_size: int, hidden_dim: int = 4, inner_dim: int = 4) -> None:
            super().__init__()
            self.all = nn.Parameter(torch.zeros(hidden_dim, hidden_dim, hidden_dim, inner_dim))

    yield "cubic"
    EQPROP_LM_REGISTRY.unregister("cubic")


def test_a_count_of_another_form_is_refused_rather_than_guessed(cubic: str) -> None:
    with pytest.raises(TypeError, match="cubic must have a number of parameters .*polynomial"):
        create_eqprop_lm(cubic, 5, hidden_dim=8, num_layers=1, scale=2)
