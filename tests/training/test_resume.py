"""A fit that goes on gives the bits of one that was never interrupted, or it is refused before
anything has changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from eqprop_lab import (
    Augmentation,
    ConvEqProp,
    EqPropTrainer,
    LoopedMLP,
    StopTraining,
    build_dataset,
)
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.training import CheckpointError, sources
from eqprop_lab.training.sources import facts, generators, set_states, states

DATA = build_dataset("digits").train
SPLIT = Split(DATA.x[:96], DATA.y[:96])
TENSORS = TensorDataset(DATA.x[:96], DATA.y[:96])
Make = Callable[[], Any]


class StopAfter:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
        if record["epoch"] == self.epoch:
            raise StopTraining


def trainer(seed: int = 0, model: nn.Module | None = None, **options: Any) -> EqPropTrainer:
    return EqPropTrainer(
        LoopedMLP(64, 8, 10, seed=seed) if model is None else model, **{"lr": 0.01, **options}
    )


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Shuffler:
    """A batch sampler of a user, with any kind of generator."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(96))
        if isinstance(self._generator, np.random.Generator | np.random.RandomState):
            order = [int(i) for i in self._generator.permutation(96)]
        else:
            self._generator.shuffle(order)
        yield from (order[i : i + 24] for i in range(0, 96, 24))


class Noisy(Dataset[Any]):
    """Samples that cannot be read in advance: they are drawn anew each time, from a generator of
    the data set.
    """

    def __init__(self, seed: int = 0, scale: float = 0.1) -> None:
        self.random, self.scale = np.random.default_rng(seed), scale

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.from_numpy(self.random.standard_normal((1, 8, 8))).float()
        return DATA.x[index] + self.scale * noise, DATA.y[index]


class Dice(Dataset[Any]):
    """Noise from the global generators."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return DATA.x[index] + 0.1 * torch.rand(
            1, 8, 8
        ) + random.random() * np.random.rand() / 10, DATA.y[index]


EXACT: dict[str, Make] = {
    "split": lambda: SPLIT.batches(24, shuffle=True, seed=3),
    "split, in order": lambda: SPLIT.batches(24),
    "split, augmented": lambda: SPLIT.batches(24, shuffle=True, augment=Augmentation(shift=1)),
    "list": lambda: list(SPLIT.batches(24)),
    "loader": lambda: DataLoader(TENSORS, 24),
    "loader, shuffled by the global generator": lambda: DataLoader(TENSORS, 24, shuffle=True),
    "loader, own generator": lambda: DataLoader(TENSORS, 24, shuffle=True, generator=seeded()),
    "random sampler": lambda: DataLoader(
        TENSORS, 24, sampler=RandomSampler(TENSORS, generator=seeded())
    ),
    "replacement": lambda: DataLoader(
        TENSORS, 24, sampler=RandomSampler(TENSORS, True, 96, seeded())
    ),
    "weighted": lambda: DataLoader(
        TENSORS, 24, sampler=WeightedRandomSampler([1.0] * 96, 96, generator=seeded())
    ),
    "subset sampler": lambda: DataLoader(
        TENSORS, 24, sampler=SubsetRandomSampler(range(90), seeded())
    ),
    "batch sampler": lambda: DataLoader(
        TENSORS, batch_sampler=BatchSampler(RandomSampler(TENSORS, generator=seeded()), 24, False)
    ),
    "numpy generator": lambda: DataLoader(
        TENSORS, batch_sampler=Shuffler(np.random.default_rng(1))
    ),
    "numpy, Mersenne twister": lambda: DataLoader(
        TENSORS, batch_sampler=Shuffler(np.random.Generator(np.random.MT19937(1)))
    ),
    "numpy random state": lambda: DataLoader(
        TENSORS, batch_sampler=Shuffler(np.random.RandomState(1))
    ),
    "python generator": lambda: DataLoader(TENSORS, batch_sampler=Shuffler(random.Random(1))),
    "generator of the data set": lambda: DataLoader(Noisy(), 24, shuffle=True, generator=seeded()),
    "global generators in the data set": lambda: DataLoader(Dice(), 24, shuffle=True),
}


@pytest.mark.parametrize("where", ["file", "process"])
@pytest.mark.parametrize("kind", EXACT)
def test_what_goes_on_is_what_was_never_interrupted(kind: str, where: str, tmp_path: Path) -> None:
    def spill() -> None:
        torch.rand(7), np.random.rand(7), random.random()

    def restart(seed: int) -> None:
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)

    make, path = EXACT[kind], tmp_path / "c.pt"
    restart(7)
    whole = trainer()
    whole.fit(make(), 3, SPLIT.batches(30))
    restart(7)
    parted = trainer()
    for end in (1, 2, 9):
        if where == "file":
            if end > 1:
                restart(end)
            parted = trainer(seed=end - 1)
        callbacks = [StopAfter(end)]
        saved = path if where == "file" else None
        parted.fit(make(), 3, SPLIT.batches(30), callbacks, checkpoint_path=saved, resume=True)
        spill()
    assert parted.history["train_loss"] == whole.history["train_loss"]
    assert fingerprint(parted.model) == fingerprint(whole.model)


class Counting:
    """Another order in every epoch, from a count that nobody can put back."""

    epoch = 0

    def __iter__(self) -> Iterator[Any]:
        count = [0]
        count[0] = type(self).epoch = type(self).epoch + 1
        order = torch.randperm(96, generator=seeded(count[0]))
        yield from ((DATA.x[rows], DATA.y[rows]) for rows in order.split(24))

    def __len__(self) -> int:
        return 4


def hidden() -> Any:
    """A generator in a closure."""
    source = random.Random(3)

    def collate(items: list[Any]) -> Any:
        x, y = zip(*items, strict=True)
        return torch.stack(x) * source.random(), torch.stack(y)

    return DataLoader(TENSORS, 24, collate_fn=collate)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(DATA.x[:96], DATA.y[:96], strict=True)


OTHER = Split(torch.cat([SPLIT.x[:95], SPLIT.x[:1]]), SPLIT.y)
RELABELLED = TensorDataset(DATA.x[:96], torch.cat([DATA.y[:95], (DATA.y[95:96] + 1) % 10]))
REFUSED: dict[str, tuple[Make, Make, str]] = {
    "batch size": (
        lambda: Split(SPLIT.x[:90], SPLIT.y[:90]).batches(24),
        lambda: Split(SPLIT.x[:90], SPLIT.y[:90]).batches(28),
        "batch_size was 24, now it is 28",
    ),
    "number of batches": (
        lambda: SPLIT.batches(24),
        lambda: SPLIT.batches(32),
        "4 batches, train_loader has 3",
    ),
    "shuffle": (
        lambda: SPLIT.batches(24, True),
        lambda: SPLIT.batches(24),
        "shuffle was True, now it is False",
    ),
    "data": (
        lambda: SPLIT.batches(24, True),
        lambda: OTHER.batches(24, True),
        "train loader holds other data",
    ),
    "augmentation": (
        lambda: SPLIT.batches(24),
        lambda: SPLIT.batches(24, augment=Augmentation(shift=1)),
        r"augment was None, now it is 'Augmentation\(shift=1",
    ),
    "kind": (
        lambda: SPLIT.batches(24),
        lambda: list(SPLIT.batches(24)),
        "it was 'Batches', now it is 'list'",
    ),
    "list": (lambda: list(SPLIT.batches(24)), lambda: list(OTHER.batches(24)), "holds other data"),
    "order of a list": (
        lambda: list(SPLIT.batches(24)),
        lambda: list(SPLIT.batches(24))[::-1],
        "holds other data",
    ),
    "loader's batch size": (
        lambda: DataLoader(Subset(TENSORS, range(90)), 24),
        lambda: DataLoader(Subset(TENSORS, range(90)), 28),
        "batch_size was 24, now it is 28",
    ),
    "loader's shuffle": (
        lambda: DataLoader(TENSORS, 24, shuffle=True),
        lambda: DataLoader(TENSORS, 24),
        "sampler was 'RandomSampler', now it is 'SequentialSampler'",
    ),
    "label": (
        lambda: DataLoader(TENSORS, 24),
        lambda: DataLoader(RELABELLED, 24),
        "holds other data",
    ),
    "subset": (
        lambda: DataLoader(Subset(TENSORS, range(48)), 24),
        lambda: DataLoader(Subset(TENSORS, range(48, 96)), 24),
        "holds other data",
    ),
    "drop_last": (
        lambda: DataLoader(TENSORS, 24),
        lambda: DataLoader(TENSORS, 24, drop_last=True),
        "drop_last was False, now it is True",
    ),
    "workers": (
        lambda: DataLoader(TENSORS, 24),
        lambda: DataLoader(TENSORS, 24, num_workers=1),
        "num_workers was 0, now it is 1",
    ),
    "weights": (
        lambda: DataLoader(
            TENSORS, 24, sampler=WeightedRandomSampler([1.0] * 96, 96, generator=seeded())
        ),
        lambda: DataLoader(
            TENSORS, 24, sampler=WeightedRandomSampler([1.0] * 95 + [9.0], 96, generator=seeded())
        ),
        "gives other batches",
    ),
    "kind of generator": (
        lambda: DataLoader(TENSORS, batch_sampler=Shuffler(random.Random(1))),
        lambda: DataLoader(TENSORS, batch_sampler=Shuffler(np.random.RandomState(1))),
        "the state of a generator is of another kind",
    ),
    "generator of the sampler is gone": (
        lambda: DataLoader(TENSORS, 24, sampler=RandomSampler(TENSORS, generator=seeded())),
        lambda: DataLoader(TENSORS, 24, sampler=RandomSampler(TENSORS)),
        r"had the generators .*sampler\.generator, now it has none of its own",
    ),
    "what a data set makes": (
        lambda: DataLoader(Noisy(scale=0.1), 24),
        lambda: DataLoader(Noisy(scale=0.2), 24),
        "gives other batches",
    ),
    "a count": (Counting, Counting, "gives other batches"),
    "a generator in a closure": (hidden, hidden, "a state that cannot be put back"),
}


def refused(
    first: EqPropTrainer,
    second: EqPropTrainer,
    loaders: Any,
    path: Path,
    match: str,
    **options: Any,
) -> None:
    """Stop the first fit, and see the second trainer refuse to go on, as it was."""
    one, two = loaders
    first.fit(one, 3, callbacks=[StopAfter(1)], checkpoint_path=path)
    before, drawn = fingerprint(second.model), torch.get_rng_state()
    kept = states(two)
    with pytest.raises(CheckpointError, match=match):
        second.fit(two, 3, checkpoint_path=path, resume=True, **options)
    assert (
        fingerprint(second.model) == before and second.history == {} and second.state.plan is None
    )
    assert (
        torch.equal(torch.get_rng_state(), drawn) and second.optimizer.state_dict()["state"] == {}
    )
    for name, state in states(two).items():
        assert torch.equal(state, kept[name]) if isinstance(state, Tensor) else state == kept[name]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_fed_with_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    one, two, match = REFUSED[kind]
    refused(trainer(), trainer(1), (one(), two()), tmp_path / "c.pt", match)


@pytest.mark.parametrize(
    "kind", ["shuffle", "data", "label", "weights", "a count", "a generator in a closure"]
)
def test_another_loader_in_the_same_process_is_refused(kind: str) -> None:
    one, two, match = REFUSED[kind]
    t = trainer()
    t.fit(one(), 3, callbacks=[StopAfter(1)])
    before = fingerprint(t.model)
    for _ in range(2):
        with pytest.raises(
            CheckpointError, match=match.replace("a state that cannot be put back", "other batches")
        ):
            t.fit(two(), 3, resume=True)
    assert fingerprint(t.model) == before and t.history["epoch"] == [1]


def test_the_same_loader_in_the_same_process_goes_on_whatever_it_holds() -> None:
    whole, parted, loader = trainer(), trainer(), hidden()
    whole.fit(hidden(), 2)
    parted.fit(loader, 2, callbacks=[StopAfter(1)])
    parted.fit(loader, 2, resume=True)
    assert fingerprint(whole.model) == fingerprint(parted.model)


def test_other_validation_is_refused(tmp_path: Path) -> None:
    held = Split(DATA.x[100:160], DATA.y[100:160])
    path = tmp_path / "c.pt"
    trainer().fit(SPLIT.batches(24), 3, held.batches(30), [StopAfter(1)], checkpoint_path=path)
    for other, match in (
        (held.batches(60), "the val loader is another one: batch_size was 30, now it is 60"),
        (Split(held.x, held.y.flip(0)).batches(30), "the val loader holds other data"),
        (None, "the val loader is another one: it was 'Batches', now it is None"),
    ):
        with pytest.raises(CheckpointError, match=match):
            trainer(1).fit(SPLIT.batches(24), 3, other, checkpoint_path=path, resume=True)


def sgd(**options: Any) -> Callable[..., torch.optim.Optimizer]:
    return lambda ps: torch.optim.SGD(ps, **{"lr": 0.01, "momentum": 0.9, **options})


SETTINGS: dict[str, tuple[Make, Make, str]] = {
    "beta": (trainer, lambda: trainer(beta=0.1), "beta is 0.03 there, 0.1 here"),
    "estimator": (
        trainer,
        lambda: trainer(gradient="response"),
        "gradient is 'centered' there, 'response' here",
    ),
    "cost": (trainer, lambda: trainer(cost="mse"), "cost is 'cross_entropy' there, 'mse' here"),
    "precision": (
        lambda: trainer(gradient="response"),
        lambda: trainer(gradient="response", amp=True),
        "amp is False there, True here",
    ),
    "eval_tol": (trainer, lambda: trainer(eval_tol=1e-3), "eval_tol is None there, 0.001 here"),
    "clip_norm": (trainer, lambda: trainer(clip_norm=1.0), "clip_norm is None there, 1.0 here"),
    "steps": (trainer, lambda: trainer(free_steps=5), "free_steps is"),
    "optimiser": (trainer, lambda: trainer(optimizer="adamw"), "state of Adam, not of AdamW"),
    "momentum": (
        lambda: trainer(optimizer=sgd()),
        lambda: trainer(optimizer=sgd(momentum=0.5)),
        "momentum is 0.9 there, 0.5 here",
    ),
    "own rate": (
        lambda: trainer(optimizer=sgd()),
        lambda: trainer(optimizer=sgd(lr=0.02)),
        "lr is 0.01 there, 0.02 here",
    ),
    "rho": (
        trainer,
        lambda: trainer(model=LoopedMLP(64, 8, 10, rho=0.5, seed=0)),
        "of a model with other settings: rho is 0.9 there, 0.5 here",
    ),
    "max_steps": (
        trainer,
        lambda: trainer(model=LoopedMLP(64, 8, 10, max_steps=50, seed=0), free_steps=30),
        "max_steps is 30 there, 50 here",
    ),
    "gamma": (
        lambda: trainer(model=ConvEqProp(1, [2, 3], 10, image_size=8, gamma=0.2, seed=0)),
        lambda: trainer(model=ConvEqProp(1, [2, 3], 10, image_size=8, gamma=0.3, seed=0)),
        "gamma is 0.2 there, 0.3 here",
    ),
    "dropout": (
        lambda: trainer(
            model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.2)),
            gradient="autograd",
        ),
        lambda: trainer(
            model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.3)),
            gradient="autograd",
        ),
        r"2\.p is 0.2 there, 0.3 here",
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_other_settings_are_refused(kind: str, tmp_path: Path) -> None:
    one, two, match = SETTINGS[kind]
    refused(one(), two(), (SPLIT.batches(24), SPLIT.batches(24)), tmp_path / "c.pt", match)


def test_another_rho_is_refused_by_a_plain_load_too_and_more_steps_are_not(tmp_path: Path) -> None:
    path = trainer().save_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="rho is 0.9 there, 0.5 here"):
        trainer(model=LoopedMLP(64, 8, 10, rho=0.5)).load_checkpoint(path)
    trainer(model=LoopedMLP(64, 8, 10, max_steps=99)).load_checkpoint(path)


def test_a_file_of_an_older_version_is_loaded_but_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    trainer().fit(SPLIT.batches(24), 2, callbacks=[StopAfter(1)], checkpoint_path=path)
    content = torch.load(path, weights_only=True)
    del (
        content["sources"],
        content["last"],
        content["model"]["settings"],
        content["optimizer"]["defaults"],
    )
    content["loaders"], content["plan"]["inside"] = (
        {"train": torch.Generator().get_state(), "val": None},
        False,
    )
    torch.save(content, path)
    t = trainer(1)
    with pytest.raises(CheckpointError, match="older version"):
        t.fit(SPLIT.batches(24), 2, checkpoint_path=path, resume=True)
    t.load_checkpoint(path)
    assert t.fit(SPLIT.batches(24), 1)["epoch"] == [1, 2]


def test_data_are_read_once_a_fit_for_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(sources, "digest", lambda loader: read.append(loader))
    train, held_out = SPLIT.batches(32), SPLIT.batches(96)
    trainer().fit(train, 3, held_out, checkpoint_path=tmp_path / "c.pt")
    assert len(read) == 2 and read[0] is train and read[1] is held_out


def test_generators_are_found_wherever_they_are_and_named_by_their_path() -> None:
    found = generators(DataLoader(Noisy(), batch_sampler=Shuffler(random.Random(1))))
    assert sorted(found) == ["batch_sampler._generator", "dataset.random"]
    loader = DataLoader(TENSORS, 24, shuffle=True, generator=seeded())
    kept = states(loader)
    first = [y.tolist() for _, y in loader]
    set_states(loader, kept)
    assert [y.tolist() for _, y in loader] == first
    assert facts(DataLoader(Stream(), 24))["samples"] is None
