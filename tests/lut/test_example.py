"""The example script runs, and what it prints is so."""

from __future__ import annotations

import re

import pytest

from eqprop_lab.lut import example


def test_every_step_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    example.main()
    said = capsys.readouterr().out
    (before, after) = map(
        float, re.findall(r"accuracy (\S+) before training, (\S+) after", said)[0]
    )
    assert after > 0.9 > before
    assert "saved: blobs.pth, blobs.yaml" in said and "to the last bit: True" in said
    accuracies = [float(found) for found in re.findall(r"override .*: accuracy (\S+)", said)]
    # soft tables, hotter ones, and bits drawn from these: each is less sure
    assert len(accuracies) == 3 and accuracies[0] > 0.9 > accuracies[2]
    assert "refused: layer_widths is structural" in said and "'digits_small'" in said
