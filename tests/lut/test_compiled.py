"""The kernel in C counts what the truth tables say; without a compiler it says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab.lut import compiled
from eqprop_lab.lut.compiled import COMPILERS, CompiledNetwork, built, compiler
from eqprop_lab.lut.packed import PackedNetwork
from tests.lut.pieces import X, looked_up, model

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="no C compiler here: cc, gcc, clang"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compilation for all tests."""
    return tmp_path_factory.mktemp("compiled")


def noise(samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 3 * torch.rand(samples, 12, generator=generator, dtype=dtype) - 1


@needs_compiler
@pytest.mark.parametrize("inputs", range(1, 9))
def test_counts_are_those_of_the_truth_tables(inputs: int, cache: Path) -> None:
    made = model(node_input_dim=inputs, layer_widths=[30, 15])
    network = CompiledNetwork(made, cache)
    assert network.mismatches(made, noise(700)) == 0
    with torch.no_grad():
        bits = looked_up(made.lut_layers(), made.encode(X[:3]))
    wanted = bits.view(3, 3, 5).sum(2).long().numpy()
    assert np.array_equal(network.counts(X[:3].numpy()), wanted)


@needs_compiler
@pytest.mark.parametrize(
    "changes",
    [
        {"node_type": "dwn", "layer_type": "topk"},
        {"layer_widths": [20, 14], "runtime": {"head_padding": True, "output_tau": 3.0}},
        {"layer_widths": [600], "num_classes": 2},
        {"encoder_config": {"name": "thermometer", "num_bits": 2, "feature_wise": False}},
        {"encoder_config": {"name": "gaussian_thermometer", "num_bits": 9, "clip_inputs": True}},
        {
            "encoder_config": {
                "name": "thermometer", "num_bits": 3, "clip_inputs": True, "feature_wise": False,
            }
        },
    ],
    ids=str,
)  # fmt: skip
def test_every_network_that_can_be_packed(changes: dict[str, Any], cache: Path) -> None:
    made = model(**changes)
    network = CompiledNetwork(made, cache)
    assert network.mismatches(made, noise(300)) == 0
    assert float(network.counts(noise(300).numpy()).std()) > 0.3


@needs_compiler
@pytest.mark.parametrize("samples", [0, 1, 63, 64, 511, 512, 513, 1100])
def test_any_number_of_samples(samples: int, cache: Path) -> None:
    made = model()
    x = noise(samples).numpy()
    assert np.array_equal(CompiledNetwork(made, cache).counts(x), PackedNetwork(made).counts(x))


@needs_compiler
def test_numbers_of_either_precision_and_any_layout(cache: Path) -> None:
    made = model().double()
    made.encoder.thresholds += 1e-12  # what float32 could not tell
    x = noise(100, torch.float64)
    x[:50, 0] = made.encoder.thresholds[0, 0]
    assert CompiledNetwork(made, cache).mismatches(made, x) == 0
    network, plain = CompiledNetwork(model(), cache), noise(100).numpy()
    assert np.array_equal(network.counts(np.asfortranarray(plain)), network.counts(plain))


@needs_compiler
def test_what_packed_refuses_is_refused(cache: Path) -> None:
    network = CompiledNetwork(model(), cache)
    with pytest.raises(ValueError, match="NaN"):
        network.counts(np.full((3, 12), np.nan))
    with pytest.raises(ValueError, match="12 features"):
        network.counts(np.zeros((3, 5)))


@needs_compiler
def test_the_kernel_is_compiled_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = built(tmp_path, compiler())
    first = path.read_bytes()
    runs: list[list[str]] = []
    run = compiled._run

    def noted(command: list[str]) -> str:
        runs.append(command)
        return run(command)

    monkeypatch.setattr(compiled, "_run", noted)
    assert built(tmp_path, compiler()) == path and path.read_bytes() == first
    assert [command[1] for command in runs] == ["--version"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    assert compiled.built(tmp_path, compiler()) != path


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RuntimeError, match="no C compiler was found.*cc, gcc, clang.*CC"):
        CompiledNetwork(model(), tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler"):
        compiler()


def test_what_the_compiler_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho no such flag >&2\nexit 1\n')
    wrong.chmod(0o755)
    monkeypatch.setenv("CC", str(wrong))
    with pytest.raises(RuntimeError, match="no such flag"):
        CompiledNetwork(model(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
