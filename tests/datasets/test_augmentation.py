"""Augmentation against a slow loop over images, its ranges, what it refuses, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from eqprop_lab import Augmentation
from eqprop_lab.datasets.registry import SOURCES


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(x: Tensor, n: int, **how: Any) -> list[list[Tensor]]:
    """Every shifted version of every image, one by one."""
    found = []
    for image in x:
        wide = pad(image[None], [n] * 4, **how)[0]
        height, width = image.shape[1:]
        places = [(i, j) for i in range(2 * n + 1) for j in range(2 * n + 1)]
        found.append([wide[:, i : i + height, j : j + width] for i, j in places])
    return found


@pytest.mark.parametrize(
    ("augment", "how"),
    [(Augmentation(shift=2), {}), (Augmentation(crop=2), {"mode": "reflect"})],
    ids=["shift: black border", "crop: mirrored border"],
)
def test_each_image_becomes_one_of_its_windows_and_all_of_them_occur(
    augment: Augmentation, how: Any
) -> None:
    x = torch.rand(600, 2, 5, 6) + 0.1
    out = augment(x, source())
    assert out.shape == x.shape and out.dtype == x.dtype
    which = []
    for image, possible in zip(out, windows(x, 2, **how), strict=True):
        hits = [k for k, window in enumerate(possible) if torch.equal(image, window)]
        assert len(hits) == 1
        which += hits
    assert set(which) == set(range(25))


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    x = torch.rand(2000, 1, 3, 4)
    out = Augmentation(flip=True)(x, source())
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert ((out == x).flatten(1).all(1) ^ mirrored).all()
    # Binomial, n = 2000: six standard deviations are 0.067.
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.067


def test_cutout_sets_one_square_in_every_channel_and_reaches_every_pixel() -> None:
    x = torch.rand(500, 3, 7, 9) + 0.1
    out = Augmentation(cutout=3)(x, source())
    gone = out == 0
    assert torch.equal(out[~gone], x[~gone])
    assert torch.equal(gone[:, :1].expand_as(gone), gone)
    assert (gone[:, 0].sum((1, 2)) == 9).all()
    assert (gone[:, 0].any(2).sum(1) == 3).all() and (gone[:, 0].any(1).sum(1) == 3).all()
    assert gone[:, 0].any(0).all()
    assert not Augmentation(cutout=7)(torch.ones(2, 1, 7, 7), source()).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "augment",
    [
        Augmentation(),
        Augmentation(shift=1),
        Augmentation(crop=2),
        Augmentation(flip=True),
        Augmentation(cutout=2),
        Augmentation(2, 3, True, 4),
    ],
    ids=str,
)
def test_the_input_is_left_alone_and_one_generator_decides_everything(
    augment: Augmentation, dtype: torch.dtype
) -> None:
    x = torch.rand(20, 2, 8, 8).to(dtype)
    before = x.clone()
    torch.manual_seed(3)
    untouched = torch.random.get_rng_state()
    out, again, other = augment(x, source(1)), augment(x, source(1)), augment(x, source(2))
    assert torch.equal(x, before) and torch.equal(out, again) and out.dtype == dtype
    assert torch.equal(out, other) == (not augment)
    assert torch.equal(torch.random.get_rng_state(), untouched)
    strided = x.to(memory_format=torch.channels_last)
    assert torch.equal(augment(strided, source(1)), out)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_images() -> None:
    x, augment = torch.rand(64, 3, 32, 32), Augmentation(2, 4, True, 8)
    out = augment(x.cuda(), source())
    assert out.device.type == "cuda" and torch.equal(out.cpu(), augment(x, source()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shift": -1}, ValueError, "shift must be an integer >= 0 .pixels., got -1"),
        ({"crop": 1.5}, TypeError, "crop must be an integer >= 0"),
        ({"cutout": True}, TypeError, "cutout must be an integer >= 0 .pixels., got True"),
        ({"flip": 1}, TypeError, "flip must be True or False, got 1"),
        ({"shfit": 1}, ValueError, "did you mean 'shift'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Augmentation.from_config(arguments)


def test_images_it_does_not_fit_are_refused() -> None:
    for augment, shape, message in (
        (
            Augmentation(shift=5),
            (1, 5, 8),
            "shift must be at most 4 for images of 5x8 pixels, got 5",
        ),
        (Augmentation(crop=8), (1, 8, 8), "crop must be at most 7"),
        (Augmentation(cutout=9), (3, 8, 9), "cutout must be at most 8"),
        (
            Augmentation(flip=True),
            (64,),
            r"augmentation needs images .* got samples of shape \(64,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            augment(torch.rand(2, *shape), source())
    largest = Augmentation(shift=4, crop=4, cutout=5)
    assert largest(torch.rand(2, 1, 5, 5), source()).shape == (2, 1, 5, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_of_the_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="generator must be one of the CPU"):
        Augmentation(flip=True)(torch.rand(2, 1, 4, 4), torch.Generator("cuda"))


def test_every_set_of_images_has_a_default_that_fits_it_and_no_sign_is_mirrored() -> None:
    for name, source in SOURCES.items():
        assert (source.augmentation is None) == (name in ("two_moons", "xor"))
        if source.augmentation is not None:
            if source.shape is not None:
                source.augmentation.check(source.shape)
            assert source.augmentation.flip == (name in ("cifar10", "cifar100", "image_folder"))


class Counted(TorchDispatchMode):
    """Counts the operations of torch, and the numbers they write anew (views write none)."""

    operations = written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if isinstance(out, Tensor) and not func.is_view:
            self.written += out.numel()
        return out


@pytest.mark.parametrize(
    ("augment", "most", "copies"),
    [
        (Augmentation(shift=2), 10, 3),
        (Augmentation(crop=4, flip=True), 15, 6),
        (Augmentation(shift=1, cutout=5), 35, 5),
    ],
)
def test_a_batch_costs_a_few_operations_however_many_images(
    augment: Augmentation, most: int, copies: int
) -> None:
    counts = []
    for images in (1, 100):
        x = torch.empty(images, 1, 28, 28)
        with Counted() as counted:
            augment(x, source())
        counts.append(counted.operations)
    assert counts[0] == counts[1] <= most
    assert counted.written <= copies * 100 * 28 * 28
