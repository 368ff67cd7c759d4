"""Answers to the exercises of notebook 02 as learners give them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from eqprop_lab.equilibrium import spectral
from tests.course.answers import right, wrong

Product = Callable[[Tensor], Tensor]
Found = tuple[Tensor, float]

# --- norm_for


@wrong("norm_for", "of a distance may be left")
def for_thirty_steps(steps: int, share: float) -> float:
    return 0.795


@wrong("norm_for", "a larger norm would do")
def for_the_shortest(steps: int, share: float) -> float:
    return 1e-3


@wrong("norm_for", "of a distance may be left")
def in_equal_parts(steps: int, share: float) -> float:
    return 1 - (1 - share) / steps


@wrong("norm_for", "a larger norm would do")
def share_of_a_step(steps: int, share: float) -> float:
    return share / steps


@wrong("norm_for", "a larger norm would do")
def two_logarithms(steps: int, share: float) -> float:
    return float(10 ** (math.log(share) / steps))


@wrong("norm_for", "is no norm between 0 and 1")
def upside_down(steps: int, share: float) -> float:
    return float(share ** (-1 / steps))


@wrong("norm_for", "is no norm between 0 and 1")
def the_logarithm(steps: int, share: float) -> float:
    return math.log(share) / steps


@wrong("norm_for", "give it back with `return`")
def printed(steps: int, share: float) -> None:
    print(share ** (1 / steps))


@right("norm_for")
def by_logarithms(steps: int, share: float) -> Tensor:
    return torch.exp(torch.tensor(share).log() / steps)


@right("norm_for")
def by_bisection(steps: int, share: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if middle**steps > share else (middle, high)
    return (low + high) / 2


# --- bounded_scale


def smooth(sigma: float, cap: float, margin: float = 1.02) -> float:
    return float((1 + (margin * sigma / cap) ** 2) ** -0.5)


def block(times: Product, V: Tensor, products: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the small matrix, and the directions they belong to."""
    width = V.shape[1]
    for _ in range(products // width - 1):
        V = torch.linalg.qr(times(V)).Q
    values, turns = torch.linalg.eigh(V.T @ times(V))
    return values, V @ turns


def of_four(times: Product, size: int, products: int) -> tuple[Tensor, float]:
    values, directions = block(times, torch.randn(size, 4).double(), products)
    top = values.abs().argmax()
    return directions[:, top], float(values[top].abs())


def one_vector(times: Product, v: Tensor, products: int) -> Found:
    image = v
    for _ in range(products):
        v = image / image.norm()
        image = times(v)
    return v, float((v @ image).abs())


def paired(times: Product, v: Tensor, products: int, least: float = 0.0) -> tuple[Tensor, float]:
    """One vector; v + Sv/σ and v - Sv/σ part what belongs to +σ and to -σ."""
    for _ in range(products):
        v = v / v.norm()
        image = times(v)
        sigma = image.norm() + least
        parts = [v + image / sigma, v - image / sigma]
        v = image + least * v
    longer = max(parts, key=lambda part: float(part.norm()))
    return longer / longer.norm(), float(sigma)


@wrong("bounded_scale", "v is a mixture of +σ and -σ")
def one_vector_stalls(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = one_vector(times, torch.randn(size).double(), products)
    return v, smooth(sigma, cap)


@wrong("bounded_scale", "v is a mixture of +σ and -σ")
def one_vector_read_by_length(times: Product, size: int, cap: float, products: int) -> Found:
    v, _ = one_vector(times, torch.randn(size).double(), products - 1)
    return v, smooth(float(times(v).norm()), cap)


@wrong("bounded_scale", "a start that is random?")
def from_ones(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = paired(times, torch.ones(size).double(), products)
    return v, smooth(sigma, cap)


@wrong("bounded_scale", "a start that is random?")
def three_steps(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, 12)
    return v, smooth(sigma, cap)


@wrong("bounded_scale", "largest in size is negative")
def the_largest_value(times: Product, size: int, cap: float, products: int) -> Found:
    values, directions = block(times, torch.randn(size, 4).double(), products)
    return directions[:, -1], smooth(float(values[-1]), cap)


@wrong("bounded_scale", "products, 240 are allowed")
def the_whole_matrix(times: Product, size: int, cap: float, products: int) -> Found:
    values, vectors = torch.linalg.eigh(times(torch.eye(size).double()))
    top = values.abs().argmax()
    return vectors[:, top], smooth(float(values[top]), cap)


@wrong("bounded_scale", "products, 240 are allowed")
def as_many_steps_as_products(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, 4 * products)
    return v, smooth(sigma, cap)


@wrong("bounded_scale", "not below the cap")
def hard_cap(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, products)
    return v, min(1.0, cap / max(sigma, 1e-30))


@wrong("bounded_scale", "m, square, root?")
def without_margin(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, products)
    return v, smooth(sigma, cap, margin=1.0)


@wrong("bounded_scale", "m, square, root?")
def without_root(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, products)
    return v, smooth(sigma, cap) ** 2


@wrong("bounded_scale", "not 1 (nan: a division by zero?)")
def image_for_direction(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = of_four(times, size, products - 4)
    return times(v), smooth(sigma, cap)


@wrong("bounded_scale", "v has length nan")
def divided_by_zero(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = paired(times, torch.randn(size).double(), products)
    return v, smooth(sigma, cap)


@wrong("bounded_scale", "two things, v and s")
def scale_alone(times: Product, size: int, cap: float, products: int) -> float:
    return smooth(of_four(times, size, products)[1], cap)


@wrong("bounded_scale", "v has shape")
def the_other_way_round(
    times: Product, size: int, cap: float, products: int
) -> tuple[float, Tensor]:
    v, sigma = of_four(times, size, products)
    return smooth(sigma, cap), v


@right("bounded_scale")
def sum_and_difference(times: Product, size: int, cap: float, products: int) -> Found:
    v, sigma = paired(times, torch.randn(size).double(), products, least=1e-30)
    return v, smooth(sigma, cap)


@right("bounded_scale")
def in_a_krylov_space(times: Product, size: int, cap: float, products: int) -> list[object]:
    basis = [torch.randn(size, 2).double()]
    for _ in range(20):
        grown = torch.linalg.qr(torch.cat([*basis, times(basis[-1])], dim=1)).Q
        basis = [grown[:, :-2], grown[:, -2:]]
    space = torch.cat(basis, dim=1)
    values, turns = torch.linalg.eigh(space.T @ times(space))
    top = values.abs().argmax()
    return [space @ turns[:, top], torch.tensor(smooth(float(values[top]), cap))]


# --- worst_kernel


@wrong("worst_kernel", "its flattened norm is")
def ones(height: int, width: int) -> Tensor:
    return torch.ones(1, 1, height, width).double()


@wrong("worst_kernel", "its flattened norm is")
def a_mean(height: int, width: int) -> Tensor:
    return ones_over(height * width, height, width)


def ones_over(divisor: float, height: int, width: int) -> Tensor:
    return torch.full((1, 1, height, width), 1 / divisor).double()


@wrong("worst_kernel", "its flattened norm is")
def for_squares(height: int, width: int) -> Tensor:
    return ones_over(height, height, width)


@wrong("worst_kernel", "and there are larger ones")
def random_kernel(height: int, width: int) -> Tensor:
    kernel = torch.randn(1, 1, height, width).double()
    return kernel / kernel.norm()


@wrong("worst_kernel", "and there are larger ones")
def one_pixel(height: int, width: int) -> Tensor:
    kernel = torch.zeros(1, 1, height, width).double()
    kernel[0, 0, height // 2, width // 2] = 1
    return kernel


@wrong("worst_kernel", "and there are larger ones")
def a_hill(height: int, width: int) -> Tensor:
    across = torch.hann_window(width + 2, periodic=False)[1:-1]
    hill = torch.hann_window(height + 2, periodic=False)[1:-1, None] * across
    return (hill / hill.norm()).double()[None, None]


@wrong("worst_kernel", "it must be a tensor of shape")
def always_five(height: int, width: int) -> Tensor:
    return torch.full((1, 1, 5, 5), 1 / 5, dtype=torch.float64)


@wrong("worst_kernel", "it must be a tensor of shape")
def without_channels(height: int, width: int) -> Tensor:
    return ones_over((height * width) ** 0.5, height, width)[0, 0]


@right("worst_kernel")
def normalised_ones(height: int, width: int) -> Tensor:
    kernel = torch.ones(1, 1, height, width)
    return kernel / kernel.norm()


@right("worst_kernel")
def chessboard(height: int, width: int) -> Tensor:
    signs = (-1.0) ** (torch.arange(height)[:, None] + torch.arange(width))
    return (signs / signs.norm()).double()[None, None]


# --- through_the_bound


def pieces(A: Tensor, v: Tensor, cap: float, G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S, the scale, and the part of dL/dS that goes through the scale."""
    S = (A + A.T) / 2
    s = torch.rsqrt(1 + (1.02 * (v @ S @ v) / cap) ** 2)
    along = (G * S).sum() * s**3 * (1.02 / cap) ** 2 * (v @ S @ v)
    return S, s, -along * torch.outer(v, v)


def symmetric(R: Tensor) -> Tensor:
    return (R + R.T) / 2


@wrong("through_the_bound", "the direct part alone")
def scale_as_a_constant(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    return symmetric(pieces(A, v, cap, G)[1] * G)


@wrong("through_the_bound", "a symmetric part is missing")
def by_S(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    _, s, through = pieces(A, v, cap, G)
    return s * G + through


@wrong("through_the_bound", "twice what it should be")
def sum_of_both(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    _, s, through = pieces(A, v, cap, G)
    return (s * G + through) + (s * G + through).T


@wrong("through_the_bound", "is the derivative of")
def other_sign_inside(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    _, s, through = pieces(A, v, cap, G)
    return symmetric(s * G - through)


@wrong("through_the_bound", "is the derivative of")
def two_forgotten(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    _, s, through = pieces(A, v, cap, G)
    return symmetric(s * G + through / 2)


@wrong("through_the_bound", "the sign is flipped")
def descent(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    _, s, through = pieces(A, v, cap, G)
    return -symmetric(s * G + through)


@wrong("through_the_bound", "grad")
def by_autograd(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    A = A.clone().requires_grad_()
    S = symmetric(A)
    W = S * torch.rsqrt(1 + (1.02 * (v @ S @ v) / cap) ** 2)
    return torch.autograd.grad((G * W).sum(), A)[0]


@wrong("through_the_bound", "BoundedNorm")
def of_the_package(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    return spectral.BoundedNorm(A, cap).pull_back(A, G)


@right("through_the_bound")
def symmetric_first(A: Tensor, v: Tensor, cap: float, G: Tensor) -> Tensor:
    S, R = symmetric(A), symmetric(G)
    q = (1.02 / cap * (v @ S @ v)) ** 2
    share = q / (1 + q) * (R * S).sum() / (v @ S @ v)
    return (R - share * torch.outer(v, v)) / (1 + q).sqrt()
