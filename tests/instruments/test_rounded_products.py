"""Rounded factors: torch's own coarse numbers say what rounding is."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import Tensor

from eqprop_lab import LoopedMLP, estimate_gradients
from eqprop_lab.instruments.rounded_products import BFLOAT16, TF32, rounded, rounded_products


def numbers(count: int = 4000, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of all sizes between 1e-3 and 1e3, and halfway ones."""
    source = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-2, 3, count, dtype=dtype)
    drawn = torch.randn(count, generator=source, dtype=dtype) * sizes
    halfway = 1 + torch.arange(1, 64, 2, dtype=dtype) * 2.0**-11
    found = torch.cat([drawn, halfway, -halfway])
    return found[found.abs() > 1e-3]


@pytest.mark.parametrize(("bits", "coarse"), [(TF32, torch.float16), (BFLOAT16, torch.bfloat16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_that_of_torchs_own_numbers(
    bits: int, coarse: torch.dtype, dtype: torch.dtype
) -> None:
    # from float32: torch rounds other float64 numbers twice
    x = numbers(dtype=torch.float32).to(dtype)
    assert torch.equal(rounded(x, bits), x.to(coarse).to(dtype))


def test_enough_bits_change_nothing_and_the_answer_is_a_new_tensor() -> None:
    x = numbers()
    same = rounded(x, 23)
    assert torch.equal(same, x) and same.data_ptr() != x.data_ptr()
    assert torch.equal(rounded(x.double(), 60), x.double())


def test_what_has_no_mantissa_to_round_stays() -> None:
    largest = torch.finfo(torch.float32).max
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 2.0**-149, largest])
    found = rounded(special, TF32)
    torch.testing.assert_close(found[:5], special[:5], rtol=0, atol=0, equal_nan=True)
    assert found[5] == 0 and found[6] == torch.inf  # the nearest number of so few bits
    assert rounded(torch.ones(2, 3).T[:, :1], TF32).shape == (3, 1)


@pytest.mark.parametrize(
    ("x", "bits", "kind", "said"),
    [
        (torch.ones(2), 0, ValueError, "bits must be"),
        (torch.ones(2), 2.5, TypeError, "bits must be"),
        (torch.ones(2).half(), 5, TypeError, "x must be .* float32 or float64, got torch.float16"),
        ([1.0], 5, TypeError, "x must be .* got list"),
    ],
)
def test_what_cannot_be_rounded_is_refused(
    x: object, bits: object, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=re.compile(said)):
        rounded(x, bits)


PRODUCTS = {
    "mm": lambda a, b: a @ b,
    "linear": lambda a, b: torch.nn.functional.linear(a, b.T.contiguous()),
    "linear with bias": lambda a, b: torch.nn.functional.linear(a, b.T, torch.zeros(b.shape[1])),
    "addmm": lambda a, b: torch.addmm(torch.zeros(()), a, b),
    "addmm_": lambda a, b: torch.zeros(len(a), b.shape[1]).addmm_(a, b),
    "mm out": lambda a, b: torch.mm(a, b, out=torch.empty(len(a), b.shape[1])),
    "addmm out": lambda a, b: torch.addmm(
        torch.zeros(()), a, b, out=torch.empty(len(a), b.shape[1])
    ),
    "bmm": lambda a, b: torch.bmm(a[None], b[None])[0],
    "einsum": lambda a, b: torch.einsum("ij,jk->ik", a, b),
    "conv": lambda a, b: torch.nn.functional.conv2d(
        a[:, :, None, None], b.T[:, :, None, None]
    ).flatten(1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_factors_of_every_kind_of_product_are_rounded(name: str) -> None:
    source = torch.Generator().manual_seed(1)
    a, b = torch.randn(5, 7, generator=source), torch.randn(7, 3, generator=source)
    product = PRODUCTS[name]
    with rounded_products(BFLOAT16):
        found = product(a, b)
    wanted = (a.bfloat16().double() @ b.bfloat16().double()).float()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert float((product(a, b) - found).abs().max()) > 1e-3  # outside nothing is rounded


def test_products_of_a_backward_pass_are_rounded_too() -> None:
    source = torch.Generator().manual_seed(2)
    a = torch.randn(5, 7, generator=source, requires_grad=True)
    b = torch.randn(7, 3, generator=source)
    with rounded_products(BFLOAT16):
        (found,) = torch.autograd.grad((a @ b).square().sum() / 2, a)
    first = a.detach().bfloat16().double() @ b.bfloat16().double()
    wanted = first.float().bfloat16().double() @ b.bfloat16().double().T
    torch.testing.assert_close(found.double(), wanted, rtol=1e-2, atol=1e-2)


def test_rounding_of_two_states_grows_as_the_nudge_shrinks_and_a_half_difference_is_spared() -> (
    None
):
    source = torch.Generator().manual_seed(3)
    model = LoopedMLP(12, 16, 3, seed=0)
    x, y = torch.randn(8, 12, generator=source), torch.arange(8) % 3
    exact = estimate_gradients(model, x, y, "response", free_steps=100, nudged_steps=50)

    def error(beta: float, pair: bool) -> float:
        model.mean_difference = pair
        with rounded_products(TF32), warnings.catch_warnings(action="ignore"):
            found = estimate_gradients(model, x, y, "centered", beta, 40, 20)
        apart = [float((found[n] - g).norm() / g.norm()) for n, g in exact.items()]
        return max(apart)

    assert error(0.003, False) > 5 * error(0.03, False) > 5e-3
    assert error(0.003, True) < 2e-3


@pytest.mark.parametrize("bits", [0, -1, True, "10", 2.0])
def test_a_context_without_bits_is_refused(bits: object) -> None:
    with pytest.raises((TypeError, ValueError), match="bits must be"):
        rounded_products(bits)
