"""The explorer of ensembles: its numbers are sums over the samples, its sentence says them."""

from __future__ import annotations

import pytest
import torch

from eqprop_lab.notebook.explorers.ensemble_temperature import EnsembleTemperature

RANDOM = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(3, 40, 4, generator=RANDOM)
LABELS = torch.multinomial(LOGITS.mean(0).softmax(1), 1, generator=RANDOM)[:, 0]


@pytest.fixture(scope="module")
def explorer() -> EnsembleTemperature:
    return EnsembleTemperature(LOGITS, LABELS)


@pytest.mark.parametrize(("members", "temperature"), [(1, 1.0), (2, 2.0), (3, 0.25)])
def test_members_are_cooled_first_and_averaged_then(
    explorer: EnsembleTemperature, members: int, temperature: float
) -> None:
    explorer.set(members=members, temperature=temperature)
    total, right = 0.0, 0
    for sample, label in enumerate(LABELS):
        powers = torch.exp(LOGITS[:members, sample].double() / temperature)
        mean = (powers / powers.sum(1, keepdim=True)).mean(0)
        total -= float(mean[label].log())
        right += int(mean.argmax() == label)
    assert explorer.data.growing[members - 1] == pytest.approx(total / 40)
    assert explorer.data.judged.nll == pytest.approx(total / 40)
    assert explorer.data.judged.accuracy == pytest.approx(right / 40)
    assert explorer.data.alone[0] == pytest.approx(explorer.data.growing[0])


def test_the_sentence_says_what_was_measured(explorer: EnsembleTemperature) -> None:
    explorer.set(members=2, temperature=1.0)
    text = explorer.describe(explorer.data, **explorer.values)
    assert text.startswith("2 of 3 members at temperature 1: NLL ")
    assert f"ECE {explorer.data.judged.ece:.1%}" in text and not explorer.errors


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="logits must have the shape"):
        EnsembleTemperature(LOGITS[:1], LABELS)
    with pytest.raises(ValueError, match="labels must have the shape"):
        EnsembleTemperature(LOGITS, LABELS[:5])
