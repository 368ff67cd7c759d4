"""The explorers of the convolutional network: what they show is the package's relaxation, their
numbers are right.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import ConvEqProp, build_dataset, relax
from eqprop_lab.equilibrium.relaxation import SETTLED, ConvergenceWarning
from eqprop_lab.models.conv import DeepEqProp
from eqprop_lab.notebook.explorers import gamma_and_rho, layer_activity
from eqprop_lab.notebook.explorers.activity_film import (
    FREE_SWEEPS,
    MOVED,
    NUDGED_SWEEPS,
    SWEEPS,
    VIEWS,
    relax_phases,
)
from eqprop_lab.notebook.explorers.gamma_and_rho import (
    DIGITS,
    GammaAndRho,
    feedback_shares,
    measure,
    random_network,
)
from eqprop_lab.notebook.explorers.layer_activity import LayerActivity
from eqprop_lab.notebook.explorers.small_networks import digits

NUMBER_OF_IMAGES = 6
IMAGES = digits(DIGITS)[0].unflatten(1, (1, 8, 8))


@pytest.fixture(scope="module")
def model() -> ConvEqProp:
    return ConvEqProp(1, [5, 12], 10, gamma=0.1, image_size=8, seed=0).double()


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    data = build_dataset("digits").train
    return data.x[:NUMBER_OF_IMAGES].double(), data.y[:NUMBER_OF_IMAGES]


@pytest.fixture(scope="module")
def browser(model: ConvEqProp, pictures: tuple[torch.Tensor, torch.Tensor]) -> LayerActivity:
    return LayerActivity(model, *pictures)


@pytest.fixture(scope="module")
def feedback() -> GammaAndRho:
    return GammaAndRho()


def test_the_film_is_the_relaxation_of_the_formula(
    model: ConvEqProp, pictures: tuple[torch.Tensor, torch.Tensor]
) -> None:
    (images, labels), beta = pictures, 0.7
    film = relax_phases(model, images[2:3], labels[2:3], beta)
    x, target = images[2:3], torch.eye(10).double()[labels[2:3]]
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias.flatten()) for layer in model.layers)  # type: ignore[union-attr, operator]
    conv, transposed = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    with torch.no_grad():
        u = conv(x, w1, b1, 1, 1)
        s1 = torch.tanh(u)
        s2 = torch.tanh(conv(s1, w2, b2, 2, 1))
        for sweep in range(SWEEPS + 1):
            if sweep > 0:
                s1 = torch.tanh(u + model.gamma * transposed(s2, w2, None, 2, 1, 1))
                pull = model.readout_vjp((s1, s2), model.readout((s1, s2)).softmax(1) - target)[1]
                assert pull is not None
                s2 = torch.tanh(
                    conv(s1, w2, b2, 2, 1) - (beta if sweep > FREE_SWEEPS else 0.0) * pull
                )
            np.testing.assert_allclose(film.states[0][sweep], s1[0].numpy(), atol=1e-12)
            np.testing.assert_allclose(film.states[1][sweep], s2[0].numpy(), atol=1e-12)
        likely = model.readout((s1, s2)).softmax(1)[0]
    np.testing.assert_allclose(film.probabilities[-1], likely.numpy(), atol=1e-12)
    assert film.residuals.shape == (FREE_SWEEPS + NUDGED_SWEEPS,)
    assert film.residuals[FREE_SWEEPS - 1] == pytest.approx(
        relax(model, x, FREE_SWEEPS).residual, rel=1e-9
    )


def test_the_sentence_of_the_browser_is_computed_from_the_states(
    browser: LayerActivity, model: ConvEqProp, pictures: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = pictures
    browser.reset()
    browser.set(image=3, layer=2, channel=7)
    free = relax(model, images[3:4], FREE_SWEEPS).state
    likely = model.readout(free).detach().softmax(1)[0]
    best, label = int(likely.argmax()), int(labels[3])
    assert (
        f"image 3, class {label}: layer 2 of 2 with 12 channels of 4x4, state of channel 7 in"
        in browser.alt
    )
    assert f"at sweep {FREE_SWEEPS} of the free phase" in browser.alt
    assert (
        f"Rms of the layer's state {float(free[1].square().mean().sqrt()):.3f}, 0 away"
        in browser.alt
    )
    assert f"the readout says {best} with probability {float(likely[best]):.3f}" in browser.alt
    assert f"the right class has {float(likely[label]):.3f}" in browser.alt
    browser.set(sweep=SWEEPS, beta=1.0, view=MOVED)
    states = browser.film(3, 1.0).states[1]
    moved = float(np.sqrt(np.mean((states[-1] - states[FREE_SWEEPS]) ** 2)))
    assert f"sweep {NUDGED_SWEEPS} of the nudged phase with beta 1" in browser.alt
    assert f"{moved:.2g} away from the free state" in browser.alt and moved > 1e-4
    np.testing.assert_array_equal(browser.data.maps, states[-1] - states[FREE_SWEEPS])
    browser.set(sweep=0)
    assert "the feed-forward start (sweep 0)" in browser.alt


def test_the_nudge_raises_the_right_class_and_a_stronger_one_more(browser: LayerActivity) -> None:
    for image in range(NUMBER_OF_IMAGES):
        label = int(browser.labels[image])
        weak, strong = (browser.film(image, beta).probabilities[-1, label] for beta in (0.05, 0.5))
        assert browser.film(image, 0.05).probabilities[FREE_SWEEPS, label] < weak < strong


@pytest.mark.parametrize(
    "change",
    [
        {"image": 2},
        {"layer": 2},
        {"channel": 0},
        {"sweep": 1},
        {"sweep": SWEEPS},
        {"view": MOVED},
        {"sweep": SWEEPS, "beta": 3.0},
    ],
)
def test_every_control_of_the_browser_changes_picture_and_sentence(
    browser: LayerActivity, change: dict[str, Any]
) -> None:
    browser.reset()
    if "beta" in change:
        browser.set(sweep=SWEEPS)
    png, alt = browser.png, browser.alt
    browser.set(**change)
    assert browser.png != png and browser.alt != alt and browser.errors == []


def test_a_channel_the_layer_does_not_have_is_clamped_in_words(browser: LayerActivity) -> None:
    browser.reset()
    assert browser.values["channel"] == int(browser.data.strongest[0])
    browser.set(layer=1, channel=11)
    assert (
        browser.data.channel == 4
        and "channel 4 (the layer's last; 11 was asked for)" in browser.alt
    )
    browser.set(layer=2)
    assert browser.data.channel == 11 and "was asked for" not in browser.alt


def test_both_views_have_one_scale_for_a_phase_and_show_the_strongest_channels_first(
    browser: LayerActivity,
) -> None:
    for view in VIEWS:
        for sweeps in (range(FREE_SWEEPS + 1), range(FREE_SWEEPS + 1, SWEEPS + 1)):
            shown = [
                browser.compute(**{**browser.values, "view": view, "sweep": sweep})
                for sweep in sweeps
            ]
            assert len({picture.scale for picture in shown}) == 1
            largest = max(float(np.abs(picture.maps).max()) for picture in shown)
            assert (
                largest == shown[0].scale
                if view == MOVED
                else 0.8 * shown[0].scale < largest <= shown[0].scale
            )
    rms = np.sqrt(np.square(browser.film(0, 0.3).states[0][FREE_SWEEPS]).mean((1, 2)))
    browser.reset()
    assert list(browser.data.strongest) == sorted(range(5), key=lambda channel: -rms[channel])


def test_the_phases_are_relaxed_once_and_kept(
    browser: LayerActivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.reset()
    browser.set(image=5)

    def forbidden(*_: object) -> None:
        raise AssertionError("relaxed again")

    monkeypatch.setattr(layer_activity, "relax_phases", forbidden)
    browser.set(layer=2, channel=3, sweep=17, view=MOVED)
    with pytest.raises(AssertionError, match="relaxed again"):
        browser.set(beta=2.9)
    browser.errors.clear()
    monkeypatch.undo()
    browser.reset()


def test_training_the_model_further_changes_nothing_in_the_browser(
    pictures: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = ConvEqProp(1, [5, 12], 10, image_size=8, seed=0).double()
    browser = LayerActivity(model, *pictures)
    before = browser.alt
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    browser.film.cache_clear()
    browser.set(layer=1)
    assert browser.alt == before


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 12), (2, 8, 8)])
def test_pictures_of_every_kind_are_drawn_and_a_single_one_has_no_slider(
    shape: tuple[int, ...],
) -> None:
    model = ConvEqProp(shape[0], [2, 3, 3], 30, image_size=shape[1:], seed=0)
    images = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    names = [f"a long name {i}" for i in range(30)]
    browser = LayerActivity(model, images, torch.tensor([29]), names, layer=3, sweep=SWEEPS)
    assert "image" not in browser.values and "class a long name 29: layer 3 of 3" in browser.alt
    with pytest.raises(ValueError, match="layer = 4 is out of range"):
        browser.set(layer=4)


def test_models_without_image_states_are_refused(
    pictures: tuple[torch.Tensor, torch.Tensor],
) -> None:
    for dense in (DeepEqProp(64, [8, 8], 10).double(), torch.nn.Linear(64, 10)):
        with pytest.raises(TypeError, match=f"image states.*got {type(dense).__name__}"):
            LayerActivity(dense, *pictures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "labels", "classes", "error", "words"),
    [
        (
            torch.zeros(2, 1, 7, 8),
            torch.tensor([0, 1]),
            None,
            ValueError,
            r"x must have shape \(B, 1, 8, 8\)",
        ),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), None, ValueError, "x must have 1 channels"),
        (
            torch.zeros(2, 1, 8, 8).float(),
            torch.tensor([0, 1]),
            None,
            TypeError,
            "x has dtype torch.float32",
        ),
        (
            torch.zeros(2, 1, 8, 8),
            [0, 1],
            None,
            TypeError,
            "labels must be a torch.Tensor of class indices, got list",
        ),
        (
            torch.zeros(2, 1, 8, 8),
            torch.zeros(2),
            None,
            TypeError,
            "labels .* got dtype torch.float32",
        ),
        (
            torch.zeros(2, 1, 8, 8),
            torch.tensor([0, 10]),
            None,
            ValueError,
            "0..9, got values from 0 to 10",
        ),
        (
            torch.zeros(2, 1, 8, 8),
            torch.tensor([1]),
            None,
            ValueError,
            r"each of the 2 images, got shape \(1,\)",
        ),
        (
            torch.zeros(2, 1, 8, 8),
            torch.tensor([1, 2]),
            ["a", "b"],
            ValueError,
            "classes holds 2 names.*10 classes",
        ),
    ],
)
def test_bad_arguments_of_the_browser_are_named(
    model: ConvEqProp,
    images: torch.Tensor,
    labels: Any,
    classes: Any,
    error: type[Exception],
    words: str,
) -> None:
    images = images if "x has dtype" in words else images.double()
    with pytest.raises(error, match=words):
        LayerActivity(model, images, labels, classes)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_random_weights_are_the_same_up_to_scale_and_have_the_norm_asked_for(
    depth: int,
) -> None:
    free, bounded = (random_network(0.3, 0.9, depth, bound, 4.0) for bound in (False, True))
    other = random_network(0.01, 0.5, depth, False, 4.0)
    assert free.layer_norms() == pytest.approx([4.0] * (depth - 1), rel=1e-6)
    assert max(bounded.layer_norms()) < bounded.cap and bounded.contraction_bound() < 0.9
    for a, b, c in zip(free.layers[1:], bounded.layers[1:], other.layers[1:], strict=True):
        weights = [layer.weight.detach().flatten() for layer in (a, b, c)]  # type: ignore[union-attr, operator]
        torch.testing.assert_close(weights[0], weights[2], rtol=1e-6, atol=1e-9)
        shrunk = torch.nn.functional.normalize(weights[1], dim=0)
        torch.testing.assert_close(
            shrunk, torch.nn.functional.normalize(weights[0], dim=0), rtol=1e-6, atol=1e-9
        )
    assert torch.equal(free.layers[0].weight, other.layers[0].weight)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("gamma", [1.0, 0.1, 0.01])
def test_what_is_measured_obeys_the_certificate(gamma: float) -> None:
    model = random_network(gamma, 0.95, 4, True, 8.0)
    data = measure(model, IMAGES)
    path = relax(model, IMAGES, 12, trajectory=True).trajectory
    assert path is not None and data.q == model.contraction_bound() < 0.95
    moved = [
        tuple(b - a for a, b in zip(old, new, strict=True))
        for old, new in zip(path, path[1:], strict=False)
    ]

    def weighted(change: tuple[torch.Tensor, ...]) -> torch.Tensor:
        blocks = [
            k * c.flatten(1).square().sum(1) for k, c in zip(model.kappa, change, strict=True)
        ]
        return torch.stack(
            [torch.stack([blocks[b] for b in group]).sum(0).sqrt() for group in model.groups]
        ).amax(0)

    for before, after in zip(moved[1:], moved[2:], strict=False):
        assert bool((weighted(after) <= data.q**2 * weighted(before) + 1e-13).all())
    sweeps = np.arange(len(data.residuals) - 1)
    assert (data.residuals[1:] <= data.residuals[1] * data.q ** (2.0 * sweeps) + 1e-12).all()
    assert data.rate < data.q**2


def test_the_share_of_the_feedback_is_that_of_its_formula() -> None:
    model = random_network(0.4, 0.9, 3, True, 5.0)
    state = relax(model, IMAGES, 20).state
    first, second, third = ((layer.weight, layer.bias.flatten()) for layer in model.layers)  # type: ignore[union-attr, operator]
    up, down = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    with torch.no_grad():
        shares = [
            0.4
            * down(state[1], second[0], padding=1).norm()
            / up(IMAGES, *first, stride=2, padding=2).norm(),
            0.4
            * down(state[2], third[0], padding=1).norm()
            / up(state[0], *second, padding=1).norm(),
        ]
    assert feedback_shares(model, IMAGES, state) == pytest.approx(
        [float(share) for share in shares], rel=1e-9
    )


def test_gamma_one_lets_the_signal_die_and_a_small_gamma_keeps_it(feedback: GammaAndRho) -> None:
    feedback.set(depth=4, gamma=1.0, norm=8.0)
    hopfield = feedback.data
    feedback.set(gamma=0.01)
    assert hopfield.sizes[-1] < 0.05 * hopfield.sizes[0] < 0.3 * feedback.data.sizes[-1]
    assert feedback.data.shares.max() < hopfield.shares.max()
    feedback.reset()


def test_the_sentence_says_what_is_measured_and_what_is_certified(feedback: GammaAndRho) -> None:
    feedback.reset()
    data, model = feedback.data, random_network(0.1, 0.9, 3, True, 5.0)
    assert f"cap {0.9 / (2 * math.cos(math.pi / 4) * math.sqrt(0.1)):.2f}" in feedback.alt
    found = relax(model, IMAGES, 100, tol=SETTLED)
    assert found.steps == data.steps and f"settles to 1e-04 in {found.steps} sweeps" in feedback.alt
    assert f"q is {model.contraction_bound():.2f}" in feedback.alt
    assert f"certified {model.contraction_bound() ** 2:.2g}." in feedback.alt
    path = relax(model, IMAGES, 40, trajectory=True).trajectory
    assert path is not None
    apart = [
        torch.cat([(a - b).flatten() for a, b in zip(s, path[-1], strict=True)]).norm()
        for s in path
    ]
    assert data.rate == pytest.approx(float(apart[14] / apart[10]) ** 0.25, abs=0.02)
    assert f"observed factor {data.rate:.2g} a sweep" in feedback.alt
    sizes = ", ".join(f"{float(s.square().mean().sqrt()):.2g}" for s in path[-1])
    assert f"rms of the states from the input up {sizes};" in feedback.alt


def test_without_the_bound_large_weights_do_not_settle_and_the_sentence_says_so(
    feedback: GammaAndRho,
) -> None:
    feedback.set(use_spectral_norm=False, norm=8.0, gamma=1.0, depth=4)
    assert (
        "not bounded, the cap would be 0.56: q is 12.94" in feedback.alt
        and "nothing is certified" in feedback.alt
    )
    assert feedback.data.steps is None and math.isnan(feedback.data.rate)
    assert f"does not settle to 1e-04 in {gamma_and_rho.SWEEPS} sweeps" in feedback.alt
    with pytest.warns(ConvergenceWarning):
        relax(random_network(1.0, 0.9, 4, False, 8.0), IMAGES, gamma_and_rho.SWEEPS, tol=SETTLED)
    feedback.set(norm=0.5, gamma=0.01, depth=2)
    assert "settles to 1e-04 in 2 sweeps, observed factor" in feedback.alt
    unknown = replace(feedback.data, rate=math.nan)
    assert "in 2 sweeps, too fast for a rate, certified" in feedback.describe(
        unknown, **feedback.values
    )
    feedback.reset()


@pytest.mark.parametrize(
    "change",
    [{"gamma": 0.5}, {"rho": 0.5}, {"depth": 2}, {"norm": 2.0}, {"use_spectral_norm": False}],
)
def test_every_control_of_gamma_and_rho_changes_picture_and_sentence(
    feedback: GammaAndRho, change: dict[str, Any]
) -> None:
    feedback.reset()
    png, alt = feedback.png, feedback.alt
    feedback.set(**change)
    assert feedback.png != png and feedback.alt != alt and feedback.errors == []


@pytest.mark.parametrize("bounded", [True, False])
def test_both_ends_of_every_slider_are_drawn(feedback: GammaAndRho, bounded: bool) -> None:
    for gamma in (0.01, 1.0):
        for rho, depth, norm in ((0.3, 2, 0.5), (0.99, 4, 8.0)):
            feedback.set(gamma=gamma, rho=rho, depth=depth, norm=norm, use_spectral_norm=bounded)
            assert np.isfinite(feedback.data.residuals).all()
    assert feedback.errors == []
    feedback.reset()


def test_values_out_of_range_are_refused(feedback: GammaAndRho) -> None:
    for values in ({"gamma": 0.0}, {"rho": 1.0}, {"depth": 1}, {"use_spectral_norm": 1}):
        with pytest.raises(ValueError, match=f"{next(iter(values))} = .* is "):
            feedback.set(**values)
