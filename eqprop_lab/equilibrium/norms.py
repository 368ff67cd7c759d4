"""Norms to check by: of a matrix, of a convolution (certified, or from below), of a flat kernel.

||W||        largest singular value of a matrix, by LAPACK and rounded outward: the certificate
||K||        largest singular value of x -> conv(x, K) at one image size: from below, converged
bound(K)   = max_w sigma_max(A(w)) / slack: from above, for every image size with zero padding
flattened  = ||K.reshape(out, -1)||: what a spectral norm of the kernel as a matrix sees;
             too small by up to sqrt(kernel height * kernel width)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.utils.parametrizations import spectral_norm

from eqprop_lab.equilibrium.top_vectors import Rows, seed_of
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real, repeated

Padding = int | Sequence[int] | str
DENSE_UP_TO = 2048
_BLOCK, _ROUNDING = 2, 1e-12


def outward(value: float, terms: int) -> float:
    """A norm from LAPACK in float64 plus what rounding may have taken: 4 (terms + 1) eps of it."""
    return value * (1 + 4 * (terms + 1) * torch.finfo(torch.float64).eps)


@torch.no_grad()
def exact_norm(weight: Tensor) -> float:
    """||W||_2, the largest singular value of a matrix (out, in), in float64: the certificate.

    Exact up to rounding, which is added: never under-estimated. Cost O(n^3): once per epoch, at
    save or on request, never per step.
    """
    matrix = weight.detach().cpu().double()
    return outward(float(torch.linalg.matrix_norm(matrix, ord=2)), max(weight.shape))


def norm_of_rows(rows: Tensor) -> float:
    """||M||_2 of a wide matrix (k, n) in float64, rounded outward: quicker than `exact_norm`."""
    largest = float(torch.linalg.eigvalsh(rows @ rows.T)[-1].clamp_min(0))
    return outward(math.sqrt(largest), sum(rows.shape))


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    rows, columns = repeated(name, value, 2, "axes")
    return rows, columns


def _frame(kernel: Tensor, padding: Padding, dilation: tuple[int, int]) -> list[int]:
    """Zeros around the image as (left, right, top, bottom)."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be 'same', 'valid' or integers >= 0, got {padding!r}")
        total = [
            d * (k - 1) * (padding == "same")
            for d, k in zip(dilation, kernel.shape[-2:], strict=True)
        ]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    if min(rows, columns) < 0:
        raise ValueError(f"padding must be 'same', 'valid' or integers >= 0, got {padding!r}")
    return [columns, columns, rows, rows]


def _four(kernel: Tensor, groups: int) -> Tensor:
    """The kernel in float64 on the CPU, checked."""
    if kernel.ndim != 4:
        raise ValueError(
            f"kernel must have shape (out, in / groups, height, width), got {tuple(kernel.shape)}"
        )
    if kernel.shape[0] % positive_int("groups", groups):
        raise ValueError(f"groups must divide the {kernel.shape[0]} output channels, got {groups}")
    if not bool(torch.isfinite(kernel).all()):
        raise ValueError("kernel holds NaN or infinite values; it has no norm")
    return kernel.detach().cpu().double()


@torch.no_grad()
def operator_norm(
    square: Callable[[Tensor], Tensor],
    size: int,
    tol: float = 1e-6,
    max_iterations: int = 2000,
    seed: int = 0,
) -> float:
    """||A||_2 of a linear map given by ``square(v) = A^T A v`` on rows v (count, size), float64.

    A block power iteration that keeps its last direction: Rayleigh-Ritz on span{V, A^T A V,
    previous V}, until ``||A^T A v - lambda v|| <= tol lambda``. The norm is approached from below,
    with an error of order tol^2: a value to show, no bound to rely on. The start is drawn from
    `seed`, so the result is reproducible; a map that was made to be orthogonal to it is
    under-estimated, so draw the seed from the map where it is known (`conv_norm` does).

    Raises: RuntimeError without convergence. Source: Knyazev 2001, doi:10.1137/S1064827500366124.
    """
    block = min(_BLOCK, positive_int("size", size))
    generator = torch.Generator(device="cpu").manual_seed(seed)
    vectors = torch.randn(block, size, dtype=torch.float64, device="cpu", generator=generator)
    trial = vectors
    for _ in range(positive_int("max_iterations", max_iterations)):
        basis = torch.linalg.qr(trial.T).Q
        image = square(basis.T.contiguous()).T
        values, rotation = torch.linalg.eigh(basis.T @ image)
        top = rotation[:, -block:]
        previous, vectors, image = vectors, (basis @ top).T, (image @ top).T
        residuals = image - values[-block:, None] * vectors
        largest = float(values[-1].clamp_min(0))
        residual = float(residuals[-1].norm())
        if residual <= real("tol", tol, above=0.0) * largest or largest == 0.0:
            return math.sqrt(largest)
        trial = torch.cat([vectors, residuals / residual, previous])
    raise RuntimeError(
        f"the norm did not converge in {max_iterations} iterations: "
        f"residual {residual / largest:.1e}"
    )


def conv_norm(
    kernel: Tensor,
    image_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    tol: float = 1e-6,
) -> float:
    """||K||_2 of x -> conv2d(x, kernel) on zero-padded images of one size, converged.

    Args: kernel (out, in / groups, height, width); image_size, of the input; the rest as in torch's
    conv2d.
    Raises: ValueError naming the argument; RuntimeError without convergence.
    """
    up, down, size, _ = _conv(kernel, image_size, stride, padding, dilation, groups)
    return operator_norm(lambda rows: down(up(rows)), size, tol, seed=seed_of(kernel))


@torch.no_grad()
def exact_conv_norm(
    kernel: Tensor,
    image_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> float | None:
    """`conv_norm` from the whole matrix and rounded up: a verdict may rest on it.

    None where the smaller side of the matrix has more than `DENSE_UP_TO` units. Arguments and
    errors as there.
    """
    up, down, inputs, outputs = _conv(kernel, image_size, stride, padding, dilation, groups)
    if min(inputs, outputs) > DENSE_UP_TO:
        return None
    rows = (up if inputs <= outputs else down)(
        torch.eye(min(inputs, outputs), dtype=torch.float64, device="cpu")
    )
    return norm_of_rows(rows)


def _conv(
    kernel: Tensor,
    image_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
) -> tuple[Rows, Rows, int, int]:
    """(rows x -> K x, rows y -> K^T y, numbers of an input, of an output) at one image size."""
    weight = _four(kernel, groups)
    height, width = _pair("image_size", image_size)
    steps = _pair("stride", stride)
    holes = _pair("dilation", dilation)
    left, right, top, bottom = frame = _frame(weight, padding, holes)
    shape = (weight.shape[1] * groups, height, width)
    outer = (shape[0], height + top + bottom, width + left + right)

    def up(rows: Tensor) -> Tensor:
        images = F.pad(rows.reshape(-1, *shape), frame)
        return F.conv2d(images, weight, None, steps, 0, holes, groups).flatten(1)

    probe = F.conv2d(weight.new_zeros(1, *outer), weight, None, steps, 0, holes, groups)

    def down(rows: Tensor) -> Tensor:
        out = rows.reshape(-1, *probe.shape[1:])
        back = conv2d_input([len(rows), *outer], weight, out, steps, 0, holes, groups)
        return back[:, :, top : top + height, left : left + width].flatten(1)

    return up, down, math.prod(shape), probe.numel()


@torch.no_grad()
def conv_bound(
    kernel: Tensor,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    frequencies: int = 32,
) -> float:
    """Certified upper bound of the norm of a convolution, for every image size and zero padding.

        A(w) = [K^(w + N j)]_j / s   (out, in s^2),   bound = max_w sigma_max(A(w)) / slack

    over the N x N grid of output frequencies w and the s^2 aliases j of each (s the stride).
    Between the grid points |p| of a trigonometric polynomial with t = ceil(k / s) taps is at most
    its largest value on the grid over cos(pi (t-1) / 2N) per axis for odd t, over sqrt(cos(pi (t-1)
    / N)) for even t (Pfister and Bresler 2018, arXiv:1802.09588). Zero padding is a compression of
    the infinite lattice, so the bound holds at any size.

    Raises: ValueError naming the argument, also when `frequencies` is too small for the kernel.
    """
    weight = _four(kernel, groups).to(kernel.device if kernel.is_cuda else "cpu")
    steps = _pair("stride", stride)
    holes = _pair("dilation", dilation)
    n = positive_int("frequencies", frequencies)
    slack = 1.0
    taps = [d * (k - 1) + 1 for d, k in zip(holes, weight.shape[-2:], strict=True)]
    for reach, s in zip(taps, steps, strict=True):
        t = math.ceil(reach / s)
        if n <= 2 * (t - 1):
            raise ValueError(
                f"frequencies must be > {2 * (t - 1)} for {t} taps per output, got {n}"
            )
        slack *= (
            math.cos(math.pi * (t - 1) / (2 * n))
            if t % 2
            else math.sqrt(math.cos(math.pi * (t - 1) / n))
        )
    spread = torch.zeros(*weight.shape[:2], *taps, dtype=weight.dtype, device=weight.device)
    spread[..., :: holes[0], :: holes[1]] = weight
    columns = torch.fft.fft(spread.unflatten(0, (groups, -1)), steps[1] * n).unflatten(
        -1, (steps[1], n)
    )
    largest = 0.0
    for row in range(n // 2 + 1):  # a real kernel: the other half holds the complex conjugates
        turns = (
            (row + n * torch.arange(steps[0], device="cpu"))[:, None]
            * torch.arange(taps[0], device="cpu")
            / (steps[0] * n)
        )
        phases = torch.polar(
            torch.ones_like(turns, dtype=torch.float64), -2 * math.pi * turns.double()
        ).to(weight.device)
        symbol = torch.einsum("goikjw,ak->gwoiaj", columns, phases).flatten(-3)
        # The eigenvalues of the smaller Gram matrix take half the time of singular values.
        gram = symbol @ symbol.mH if symbol.shape[-2] <= symbol.shape[-1] else symbol.mH @ symbol
        largest = max(
            largest, math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[..., -1].max())))
        )
    return largest / math.sqrt(steps[0] * steps[1]) / slack * (1 + _ROUNDING)


def flattened_norm(kernel: Tensor) -> float:
    """||K.reshape(out, -1)||_2: the norm of the kernel as a matrix, not of the convolution."""
    return exact_norm(kernel.flatten(1))


def torch_spectral_norm(weight: Tensor, power_iterations: int = 1, seed: int = 0) -> Tensor:
    """`weight` as torch's own `parametrizations.spectral_norm` leaves it.

    weight: (out, in) or (out, in, height, width).

    It divides by an estimate u.Wv <= ||W|| of the flattened weight, so the norm of the result is >=
    1, never < 1. `seed` draws u and v without touching the global generator.
    """
    with seeded(seed):
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = nn.Parameter(weight.detach().clone())
        spectral_norm(layer, n_power_iterations=positive_int("power_iterations", power_iterations))
    return layer.eval().weight.detach()
