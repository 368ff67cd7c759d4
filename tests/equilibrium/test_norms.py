"""Norms of convolutions against the dense matrix of the unrolled map, and what a flattened kernel
hides.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from eqprop_lab.equilibrium.norms import (
    conv_bound,
    conv_norm,
    exact_norm,
    flattened_norm,
    operator_norm,
    torch_spectral_norm,
)

# out, in, kernel, stride, padding, dilation, groups, image
GEOMETRIES = [
    (4, 3, (3, 3), 1, 1, 1, 1, (6, 5)),
    (4, 2, (3, 3), 2, 1, 1, 2, (7, 8)),
    (6, 3, (5, 5), 2, 2, 1, 1, (9, 9)),
    (3, 3, (2, 2), 1, 0, 2, 1, (7, 7)),
    (4, 4, (4, 4), 3, 1, 1, 4, (10, 9)),
    (2, 2, (3, 1), (2, 1), "valid", 1, 1, (6, 6)),
    (2, 2, (3, 3), 1, "same", (1, 2), 1, (6, 6)),
    (1, 1, (1, 1), 1, 0, 1, 1, (1, 1)),
]


def kernel(out: int, inside: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out, inside, *size, dtype=torch.float64, generator=generator)


def dense_norm(
    weight: torch.Tensor, channels: int, image: tuple[int, int], **geometry: Any
) -> float:
    columns = torch.eye(channels * image[0] * image[1], dtype=torch.float64).unflatten(
        1, (channels, *image)
    )
    return float(torch.linalg.matrix_norm(F.conv2d(columns, weight, **geometry).flatten(1), ord=2))


@pytest.mark.parametrize(
    ("out", "inside", "size", "stride", "padding", "dilation", "groups", "image"), GEOMETRIES
)
def test_norm_is_the_largest_singular_value_of_the_unrolled_map(
    out: int, inside: int, size: tuple[int, int], stride: int, padding: int,
    dilation: int, groups: int,
    image: tuple[int, int],
) -> None:  # fmt: skip
    weight = kernel(out, inside // groups, size)
    expected = dense_norm(
        weight, inside, image, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    assert conv_norm(weight, image, stride, padding, dilation, groups) == pytest.approx(
        expected, rel=1e-9
    )
    assert conv_bound(weight, stride, dilation, groups) >= expected


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 5)])
def test_the_fourier_bound_is_never_below_the_norm(size: tuple[int, int], stride: int) -> None:
    for seed in range(3):
        weight = kernel(3, 2, size, seed)
        bounds = [conv_bound(weight, stride, frequencies=n) for n in (12, 32)]
        norms = [
            dense_norm(weight, 2, (n, n + 1), stride=stride, padding=size[0] // 2) for n in (5, 12)
        ]
        assert min(bounds) >= max(norms)
        assert bounds[1] <= 1.3 * max(norms)  # a bound, and not a loose one


def test_more_frequencies_tighten_the_bound_towards_the_supremum() -> None:
    # its symbol is largest at frequency 0, which every grid holds: sup = 1
    smooth = torch.ones(1, 1, 3, 3) / 9
    bounds = [conv_bound(smooth, frequencies=n) for n in (8, 16, 32, 64)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[1] == pytest.approx(1 / math.cos(math.pi / 16) ** 2, rel=1e-6)
    even = torch.ones(1, 1, 2, 2) / 4
    assert conv_bound(even, frequencies=16) == pytest.approx(1 / math.cos(math.pi / 16), rel=1e-6)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_a_smoothing_kernel_hides_a_factor_of_nearly_three(size: int) -> None:
    normalised = torch_spectral_norm(torch.ones(1, 1, 3, 3, dtype=torch.float64))
    assert flattened_norm(normalised) == pytest.approx(1.0)
    norm = conv_norm(normalised, size, padding=1)
    assert norm == pytest.approx((1 + 2 * math.cos(math.pi / (size + 1))) ** 2 / 3, rel=1e-9)
    if size >= 28:
        assert 2.96 < norm < 2.99


def test_the_norm_of_a_matrix_with_a_double_largest_value_and_of_zero() -> None:
    diagonal = torch.tensor([3.0, -3.0, 2.9999, 0.0, 1.0], dtype=torch.float64)
    assert operator_norm(lambda rows: rows * diagonal**2, 5) == pytest.approx(3.0, rel=1e-9)
    assert operator_norm(torch.zeros_like, 7) == 0.0


def test_without_convergence_there_is_no_number() -> None:
    spread = torch.linspace(0, 1, 400, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="did not converge in 2 iterations"):
        operator_norm(lambda rows: rows * spread, 400, max_iterations=2)


def test_the_result_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = conv_norm(kernel(2, 2, (3, 3)), 6, padding=1)
    torch_spectral_norm(torch.eye(3))
    assert torch.equal(torch.rand(1), expected)
    assert first == conv_norm(kernel(2, 2, (3, 3)), 6, padding=1)


def test_torch_divides_by_an_estimate_from_below() -> None:
    norms = []
    for seed in range(20):
        weight = torch.randn(
            64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        norms.append(exact_norm(torch_spectral_norm(weight, seed=seed)))
    assert min(norms) >= 1.0 and max(norms) > 1.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": torch.ones(3, 3)}, "kernel must have shape"),
        ({"kernel": torch.full((1, 1, 3, 3), math.nan)}, "kernel holds NaN"),
        ({"image_size": 0}, "image_size must be an integer >= 1"),
        ({"image_size": (3, 3, 3)}, "image_size must be one integer or one for each of the 2"),
        ({"stride": 0}, "stride must be an integer >= 1"),
        ({"padding": -1}, "padding must be 'same', 'valid' or integers >= 0"),
        ({"padding": "some"}, "padding must be 'same', 'valid' or integers >= 0"),
        ({"groups": 2}, "groups must divide the 1 output channels"),
        ({"tol": 0.0}, "tol must be"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"kernel": torch.ones(1, 1, 3, 3), "image_size": 5} | change
    with pytest.raises(ValueError, match=message):
        conv_norm(**arguments)


def test_a_grid_too_coarse_for_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="frequencies must be > 8 for 5 taps per output, got 8"):
        conv_bound(torch.ones(1, 1, 5, 5), frequencies=8)
