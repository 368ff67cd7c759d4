"""What holds for every size, batch and input of a kernel, the extreme ones among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from eqprop_lab import EqPropKernel, LoopedMLP, estimate_gradients
from eqprop_lab.kernel.costs import COSTS
from eqprop_lab.kernel.estimating import ESTIMATORS
from eqprop_lab.kernel.optimisers import NAMES
from eqprop_lab.kernel.units import LOGISTIC, TANH
from tests.kernel.golden import ORIGINAL

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
# what an input can be made of; the largest ones saturate every unit
SIZES = (0.0, 1e-30, 1e-3, 1.0, 1e6)
RHO = 0.9


@dataclass(frozen=True)
class Setting:
    """A kernel and a batch, drawn."""

    sizes: tuple[int, int, int]
    batch: int
    size: float
    constant: bool
    seed: int
    options: dict[str, Any]

    def kernel(self, **others: Any) -> EqPropKernel:
        return EqPropKernel(*self.sizes, seed=self.seed, rho=RHO, **{**self.options, **others})

    def data(self, kernel: EqPropKernel) -> tuple[np.ndarray, np.ndarray]:
        rng, (features, _, classes) = np.random.default_rng(self.seed), self.sizes
        shape = self.batch, features
        x = np.ones(shape) if self.constant else rng.standard_normal(shape)
        return (x * self.size).astype(kernel.dtype), rng.integers(0, classes, self.batch)


def drawn(dtypes: tuple[str, ...] = ("float32", "float64")) -> st.SearchStrategy[Setting]:
    options = {
        "estimator": st.sampled_from(ESTIMATORS),
        "cost": st.sampled_from(COSTS),
        "optimizer": st.sampled_from(NAMES),
        "dtype": st.sampled_from(dtypes),
        "free_steps": st.integers(1, 12),
        "nudged_steps": st.integers(1, 6),
        "free_units": st.sampled_from((TANH, LOGISTIC)),
        "nudged_units": st.sampled_from((TANH, LOGISTIC)),
        "use_spectral_norm": st.booleans(),
    }
    return st.builds(
        Setting,
        sizes=st.tuples(st.integers(1, 12), st.integers(1, 18), st.integers(1, 5)),
        batch=st.integers(1, 9),
        size=st.sampled_from(SIZES),
        constant=st.booleans(),
        seed=st.integers(0, 99),
        options=st.fixed_dictionaries(options),
    )


def near(got: np.ndarray, expected: np.ndarray, allowed: float, floor: float = 0.0) -> bool:
    return bool(np.linalg.norm(got - expected) <= allowed * np.linalg.norm(expected) + floor)


@few
@given(drawn())
def test_a_step_is_finite_of_its_shapes_and_within_the_bound(setting: Setting) -> None:
    kernel = setting.kernel()
    x, y = setting.data(kernel)
    found = kernel.estimate(x, y)
    for name, gradient in found.gradients.items():
        assert gradient.shape == kernel.shapes[name] and gradient.dtype == kernel.dtype, name
        assert np.isfinite(gradient).all(), name
    assert found.logits.shape == (setting.batch, setting.sizes[2])
    assert found.loss.shape == (setting.batch,) and (found.loss >= 0).all()
    numbers = kernel.train_step(x, y)
    assert all(np.isfinite(value) for value in numbers.values())
    assert numbers["residual"] >= 0 and 0 <= numbers["accuracy"] <= 1
    assert np.isfinite(kernel._flat).all()
    assert not setting.options["use_spectral_norm"] or kernel.contraction_bound() < RHO


# settled or not: both compute the same number of steps
@pytest.mark.filterwarnings("ignore::eqprop_lab.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::eqprop_lab.RoundingWarning")
@few
@given(drawn(("float64",)))
def test_the_gradients_are_those_of_the_torch_path(setting: Setting) -> None:
    kernel = setting.kernel()
    model = kernel.to_model(LoopedMLP)
    x, y = setting.data(kernel)
    expected = estimate_gradients(
        model, torch.from_numpy(x), torch.from_numpy(y), kernel.how.estimator, kernel.how.beta,
        free_steps=kernel.how.free_steps, nudged_steps=kernel.how.nudged_steps, cost=kernel.cost,
    )  # fmt: skip
    for name, gradient in kernel.gradients(x, y).items():
        assert near(gradient, expected[name].numpy(), 1e-8, 1e-12), name


@few
@given(drawn(("float64",)))
def test_a_batch_is_the_mean_of_its_samples(setting: Setting) -> None:
    """One by one in buffers that held the whole batch: nothing of it may be left in them."""
    kernel = setting.kernel()
    x, y = setting.data(kernel)
    together, logits = kernel.gradients(x, y), kernel.logits(x)
    alone = [kernel.gradients(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    for name, gradient in together.items():
        mean = np.mean([one[name] for one in alone], 0)
        size = max(float(np.linalg.norm(one[name])) for one in alone)
        assert near(mean, gradient, 0, 1e-9 * size + 1e-15), name
    for i, row in enumerate(logits):
        assert near(kernel.logits(x[i : i + 1])[0], row, 1e-11)


@few
@given(drawn(("float64",)), st.randoms(use_true_random=False))
def test_units_have_no_order(setting: Setting, random: Any) -> None:
    """Hidden units in another order: the same logits, and gradients in that order."""
    one, other = setting.kernel(), setting.kernel()
    places = list(range(setting.sizes[1]))
    random.shuffle(places)
    move = {"W_in": lambda g: g[places], "W_out.weight": lambda g: g[:, places]}
    move |= {ORIGINAL: lambda g: g[places][:, places], "W_rec.bias": lambda g: g[places]}

    def moved(name: str, value: np.ndarray) -> np.ndarray:
        apply = move.get(name, move.get(name.partition(".")[0], np.array))
        return np.array(apply(value))

    for name, value in one.parameters.items():
        other.parameters[name][...] = moved(name, value)
    x, y = setting.data(one)
    assert near(other.logits(x), one.logits(x), 1e-10)
    expected = one.gradients(x, y)
    for name, gradient in other.gradients(x, y).items():
        assert near(gradient, moved(name, expected[name]), 1e-8, 1e-12), name


@few
@given(drawn(), st.sampled_from((0.0, 1e-30, 1e-6, 1e3, 1e6, 1e30)))
def test_the_bound_holds_for_weights_of_any_size(setting: Setting, size: float) -> None:
    kernel = setting.kernel(use_spectral_norm=True)
    kernel.parameters[ORIGINAL] *= size
    assert 0 <= kernel.contraction_bound() < RHO
    x, y = setting.data(kernel)
    assert all(np.isfinite(gradient).all() for gradient in kernel.gradients(x, y).values())


@few
@given(drawn(), st.sampled_from((np.nan, np.inf, -np.inf)), st.data())
def test_what_is_not_finite_is_refused_wherever_it_lies(
    setting: Setting, value: float, data: st.DataObject
) -> None:
    kernel = setting.kernel()
    x, y = setting.data(kernel)
    x[data.draw(st.integers(0, len(x) - 1)), data.draw(st.integers(0, x.shape[1] - 1))] = value
    before = kernel._flat.copy()
    for call in (kernel.train_step, kernel.gradients, lambda x, _: kernel.logits(x)):
        with pytest.raises(ValueError, match="x holds NaN or infinite values"):
            call(x, y)
    assert np.array_equal(before, kernel._flat)


@few
@given(drawn())
def test_inputs_too_large_for_a_product_are_named_or_computed(setting: Setting) -> None:
    """The largest numbers of a dtype are finite; what they overflow into must not be learned."""
    kernel = setting.kernel()
    x, y = setting.data(kernel)
    x[...] = np.finfo(kernel.dtype).max
    before = kernel._flat.copy()
    try:
        kernel.train_step(x, y)
    except FloatingPointError as error:
        assert "finite" in str(error)
        assert np.array_equal(before, kernel._flat)
    assert np.isfinite(kernel._flat).all()
