"""Two processes train as one: equal gradients, equal bits on both, and a death that costs nothing.

The processes are started once, by torchrun; what they do stands in `ranks`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from eqprop_lab import (
    BioplausibleModel,
    EqPropTrainer,
    EquilibriumBlock,
    LoopedMLP,
    TransformerEqProp,
)
from eqprop_lab.commands import train
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.runs import Run, RunStore
from eqprop_lab.training import kernel_gradients
from eqprop_lab.training.checkpoint import read
from eqprop_lab.training.distributed import DistributedTrainer, placed
from eqprop_lab.training.process_group import VARIABLES, Group, process_group
from tests.experiments.test_config import changed
from tests.training.ranks import MODELS

TWO = Group(0, 2, torch.device("cpu"))  # the first of two, of which the other one is not there
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    (place / "small.yaml").write_text(yaml.safe_dump(changed("training", epochs=4)))
    command = [sys.executable, *LAUNCH, "--max-restarts", "1", "-m", "tests.training.ranks"]
    done = subprocess.run(
        [*command, str(place)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (place / "printed.txt").write_text(done.stdout)
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return content


@pytest.mark.parametrize("shares", ["even", "uneven"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_gradient_is_that_of_the_whole_batch(
    found: dict[str, Any], name: str, shares: str
) -> None:
    assert 0 < found[shares][name] < 1e-12  # another order of the sum, and nothing else


def test_ranks_have_the_same_bits_after_thirty_steps(found: dict[str, Any]) -> None:
    steps = found["steps"]
    assert steps["updates"] == 30 and steps["equal"] == [True, True]
    assert steps["off"] < 1e-4  # float32, and Adam divides by small numbers
    for name, (here, alone) in steps["curves"].items():
        # how far nudged phases are off is relative to the share that they belong to
        off = 0.5 if name == "nudged_residual" else 1e-2
        assert here == pytest.approx(alone, rel=off, abs=1e-6), name
    for name in ("train_accuracy", "val_accuracy"):
        assert steps["curves"][name][0] == steps["curves"][name][1]


def test_ranks_that_differ_are_told_so(found: dict[str, Any]) -> None:
    odd = found["odd"]
    assert odd["stopped"] == [2, 2]  # one of them wanted to
    for name, told in {"seeds": "parameters", "data": "data", "batch": "batch"}.items():
        assert all(
            text.endswith(
                f"ranks must have the same {told}: rank 1 has other ones than rank 0; seed models "
                "and loaders alike on all of them, and give all of them the same files"
            )
            for text in odd[name]
        )
    assert all("Sequential draws random numbers" in text for text in odd["noise"])


def test_a_killed_rank_costs_nothing(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    assert printed.count("epoch   1") == 2 and printed.count("epoch   3") == 2
    killed, whole = (_only(folder / name) for name in ("killed", "whole"))
    assert killed.parameters == whole.parameters
    for name in set(whole.history) - {"seconds"}:
        assert repr(killed.history[name]) == repr(whole.history[name])
    one, other = (read(run.checkpoint)["optimizer"]["state"]["state"] for run in (killed, whole))
    assert all(torch.equal(one[k]["exp_avg"], other[k]["exp_avg"]) for k in other)


def _only(folder: Path) -> Run:
    (run,) = RunStore(folder).runs()
    return run


def test_one_process_does_not_go_on_with_a_run_of_two(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _only(folder / "whole")
    assert train.main(["--resume", run.id, "--runs", str(folder / "whole")]) == 2
    assert "ranks is 2 there, None here" in capsys.readouterr().err


@pytest.mark.parametrize("count", [2, 3, 7, 64])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shares_make_up_the_batch(count: int, ranks: int) -> None:
    if count < ranks:
        with pytest.raises(ValueError, match="a sample for each of the 3 ranks, got 2"):
            Group(0, ranks, torch.device("cpu")).share(count)
        return
    groups = [Group(rank, ranks, torch.device("cpu")) for rank in range(ranks)]
    rows = torch.arange(2 * count, device="cpu").reshape(count, 2)
    parts = [placed(rows[g.share(count)], g.share(count), count) for g in groups]
    assert torch.equal(torch.stack(parts).sum(0), rows)
    sizes = [len(rows[g.share(count)]) for g in groups]
    assert max(sizes) - min(sizes) <= 1


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "rule": (
        lambda: BioplausibleModel("feedback_alignment", 6, [5], 3, seed=0),
        {},
        "gradient='local' .* is a learning rule",
    ),
    "beta": (
        lambda: TransformerEqProp.from_text("abcab", 4, 1, 4, seed=0),
        {},
        "beta='auto' is fitted to the largest slope of a batch",
    ),
    "block": (
        lambda: nn.Sequential(EquilibriumBlock(LoopedMLP(6, 5, 3, seed=0))),
        {},
        "EquilibriumBlock with estimator='centered' nudges relative",
    ),
    "statistics": (
        lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
        {"gradient": "autograd"},
        r"1 \(BatchNorm1d\) normalises by the statistics of a batch",
    ),
    "group": (lambda: LoopedMLP(6, 5, 3), {"group": None}, "group must be what process_group"),
    "device": (
        lambda: LoopedMLP(6, 5, 3),
        {"device": "cuda"},
        "device must be of the kind that the group was made for, 'cpu', got 'cuda'",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_cut_is_refused_by_name(case: str) -> None:
    build, options, told = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=told):
        DistributedTrainer(build(), **{"group": TWO, **options})


def test_what_only_looks_like_it_is_not_refused() -> None:
    block = EquilibriumBlock(LoopedMLP(6, 5, 3, seed=0), estimator="implicit")
    DistributedTrainer(nn.Sequential(block), group=TWO)
    DistributedTrainer(LoopedMLP(6, 5, 3), "implicit", beta="auto", group=TWO)


def test_batches_too_small_and_cut_already_are_refused() -> None:
    trainer = DistributedTrainer(LoopedMLP(6, 5, 3, seed=0), group=TWO)
    x, y = torch.rand(9, 6), torch.zeros(9, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"one of its batches has 1 \(9 samples in batches of 4\)"):
        trainer.fit(Split(x, y).batches(4), 1)
    data = TensorDataset(x, y)
    cut = DataLoader(data, 4, sampler=DistributedSampler(data, 2, 0))
    with pytest.raises(ValueError, match="whole batches on every rank, got one with a Distrib"):
        trainer.fit(cut, 1)
    assert trainer.history.epochs == 0


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    for rank, there in ((1, False), (0, True)):
        group = Group(rank, 2, torch.device("cpu"))
        trainer = DistributedTrainer(LoopedMLP(6, 5, 3, seed=0), group=group)
        assert trainer.save_checkpoint(tmp_path / "a.pt") == tmp_path / "a.pt"
        assert (tmp_path / "a.pt").exists() == there


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is missing"),
        ({"device": "mps"}, "device must be 'cpu' or 'cuda' for a group, got 'mps'"),
        ({"device": 3}, "device must be 'cpu' or 'cuda' for a group, got 3"),
        ({"timeout": 0}, "timeout must be a finite number > 0, got 0"),
    ],
)
def test_a_group_needs_torchrun(
    options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=told), process_group(**options):
        pass


def test_minutes_are_for_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(changed("training", epochs=1)))
    assert train.main([str(path), "--minutes", "1", "--runs", str(tmp_path / "runs")]) == 2
    assert "--minutes is for a single process" in capsys.readouterr().err


def test_the_settings_of_a_file_count_too(tmp_path: Path) -> None:
    """A fit with the kernel was gone on with without it."""
    loader = Split(torch.rand(8, 6), torch.zeros(8, dtype=torch.int64)).batches(4)
    path = tmp_path / "a.pt"
    kernel_gradients.say_without_cupy.cache_clear()  # it warns once a process
    with pytest.warns(UserWarning, match="NumPy"):
        trainer = EqPropTrainer(LoopedMLP(6, 5, 3, seed=0), use_kernel=True)
    trainer.fit(loader, 1, checkpoint_path=path)
    with pytest.raises(RuntimeError, match="use_kernel is True there, None here"):
        EqPropTrainer(LoopedMLP(6, 5, 3, seed=0)).fit(loader, 2, checkpoint_path=path, resume=True)
