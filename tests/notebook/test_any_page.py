"""Pictures lie on a white page as well as on a dark one: no white blocks, and nothing that a page
swallows.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from eqprop_lab import ConvEqProp, FullEqPropLM, LoopedMLP, ablation_study, build_dataset
from eqprop_lab.instruments.scaling import StepTime
from eqprop_lab.lut import ModelConfig, build_model
from eqprop_lab.notebook import TrainingCockpit
from eqprop_lab.notebook.explorers.ablation_slices import AblationSlices
from eqprop_lab.notebook.explorers.attention_and_settling import AttentionAndSettling
from eqprop_lab.notebook.explorers.bits_of_a_state import BitsOfAState
from eqprop_lab.notebook.explorers.chain_of_blocks import ChainOfBlocks
from eqprop_lab.notebook.explorers.convergence import RelaxationExplorer
from eqprop_lab.notebook.explorers.decision_boundary import DecisionBoundary
from eqprop_lab.notebook.explorers.discretisation_gap import DiscretisationGap
from eqprop_lab.notebook.explorers.energy_landscape import EnergyLandscape
from eqprop_lab.notebook.explorers.ensemble_temperature import EnsembleTemperature
from eqprop_lab.notebook.explorers.error_sweeps import ErrorSweeps
from eqprop_lab.notebook.explorers.gamma_and_rho import GammaAndRho
from eqprop_lab.notebook.explorers.gradient_compass import GradientCompass
from eqprop_lab.notebook.explorers.kernel_costs import SPACES, TIMES, KernelCosts
from eqprop_lab.notebook.explorers.layer_activity import LayerActivity
from eqprop_lab.notebook.explorers.looking_inside import LookingInside
from eqprop_lab.notebook.explorers.noise_and_beta import NoiseAndBeta
from eqprop_lab.notebook.explorers.one_lut import OneLUT
from eqprop_lab.notebook.explorers.playground import Playground
from eqprop_lab.notebook.explorers.precision_and_nudge import PrecisionAndNudge
from eqprop_lab.notebook.explorers.rule_picker import RulePicker
from eqprop_lab.notebook.explorers.scale_out import ScaleOut
from eqprop_lab.notebook.explorers.stability_map import StabilityMap
from eqprop_lab.notebook.explorers.table_faults import TableFaults
from eqprop_lab.notebook.explorers.two_phase_movie import TwoPhaseMovie
from eqprop_lab.notebook.explorers.variant_picker import Candidate, VariantPicker
from eqprop_lab.notebook.live import STORED_BYTES, LivePicture
from eqprop_lab.notebook.picture import img_html, title_html
from eqprop_lab.notebook.style import (
    NEUTRAL,
    PALETTE,
    SIGNED,
    apply_style,
    encode_png,
    fading,
    fit_png,
    new_figure,
)

WHITE, DARK = (255, 255, 255), (0x11, 0x11, 0x11)
"""JupyterLab's two pages, `--jp-layout-color0` of its light and its dark theme."""

ROOT = Path(__file__).resolve().parents[2]


def on_page(png: bytes, page: tuple[int, int, int]) -> np.ndarray:
    """The picture as a reader sees it on a page, (height, width) of luminance from 0 to 255."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", picture.size, (*page, 255))
    ground.alpha_composite(picture)
    return np.asarray(ground.convert("L"))


def contrast(a: str | tuple[float, ...], b: str | tuple[float, ...]) -> float:
    """WCAG 2.1's ratio of relative luminances, from 1 to 21."""

    def luminance(colour: str | tuple[float, ...]) -> float:
        srgb: np.ndarray = np.array(to_rgb(colour))
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    darker, lighter = sorted((luminance(a), luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


def assert_fits_any_page(png: bytes) -> None:
    """Corner transparent; the dark page shows hardly any white, and both show something."""
    assert Image.open(io.BytesIO(png)).convert("RGBA").getpixel((0, 0))[3] == 0
    light, dark = on_page(png, WHITE), on_page(png, DARK)
    assert (dark > 215).mean() < 0.04, (
        f"{(dark > 215).mean():.1%} of the picture is white on a dark page"
    )
    assert (light < 180).mean() > 0.005 and (dark > 70).mean() > 0.005


def conv_activity() -> LivePicture:
    digits = build_dataset("digits").train
    model = ConvEqProp(1, [5, 12], 10, gamma=0.1, image_size=8, seed=0).double()
    return LayerActivity(model, digits.x[:4].double(), digits.y[:4])


def decision_boundary() -> LivePicture:
    fresh = LoopedMLP(2, 12, 2, seed=0)
    return DecisionBoundary([fresh, copy.deepcopy(fresh)])


def attention_and_settling() -> LivePicture:
    model = FullEqPropLM(10, 12, 2, 3, 7, inner_dim=16, seed=0).double()
    return AttentionAndSettling(model, torch.arange(7)[None], list("abcdefghij"))


def variant_picker() -> LivePicture:
    known = Candidate([(0, 4.6), (9, 2.5)], {"a": "b"}, {"bigram": 2.5}, sample="To be or not")
    return VariantPicker({"hybrid": known})


def kernel_costs() -> LivePicture:
    costs = dict.fromkeys((*TIMES, *SPACES), 3.0)
    return KernelCosts([{"hidden": 32, "steps": steps, **costs} for steps in (10, 30)])


def discretisation_gap() -> LivePicture:
    config = ModelConfig(
        "feedforward", "random", "probabilistic", {"name": "thermometer"}, 2, [8, 6, 4], 2
    )
    model = build_model(config)
    x = torch.rand(9, 3)
    model.fit_encoder(x)  # type: ignore[operator]
    return DiscretisationGap({("normal", 0.1): model}, x, torch.arange(9) % 2)


def no_trainer(values: dict[str, Any]) -> Any:
    raise OSError("nothing to train")


def ablation_slices() -> AblationSlices:
    @ablation_study
    def grid() -> dict[str, Any]:
        return {"beta": [0.1, 1.0], "nudged_steps": [1, 4, 12]}

    return AblationSlices({"error": grid.run(lambda beta, nudged_steps, seed: beta + seed, 3)})


def looking_inside() -> LookingInside:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    networks = {"settles": ConvEqProp(1, 4, 10, image_size=8, seed=0)}
    return LookingInside(networks, images, torch.tensor([0, 1]))


def ensemble_temperature() -> EnsembleTemperature:
    logits = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))
    return EnsembleTemperature(logits, torch.arange(20) % 4)


LIVE: dict[str, Callable[[], LivePicture]] = {
    "ablation_slices": ablation_slices,
    "bits_of_a_state": BitsOfAState,
    "cockpit": lambda: TrainingCockpit(no_trainer, epochs=3),
    "chain_of_blocks": ChainOfBlocks,
    "decision_boundary": decision_boundary,
    "discretisation_gap": discretisation_gap,
    "ensemble_temperature": ensemble_temperature,
    "energy_landscape": EnergyLandscape,
    "error_sweeps": ErrorSweeps,
    "gamma_and_rho": GammaAndRho,
    "gradient_compass": GradientCompass,
    "kernel_costs": kernel_costs,
    "layer_activity": conv_activity,
    "convergence": RelaxationExplorer,
    "noise_and_beta": NoiseAndBeta,
    "one_lut": OneLUT,
    "playground": Playground,
    "precision_and_nudge": PrecisionAndNudge,
    "rule_picker": RulePicker,
    "scale_out": lambda: ScaleOut({"EqProp": StepTime(1e-3, 1e-5)}, 10_000, 10),
    "stability_map": StabilityMap,
    "table_faults": TableFaults,
    "two_phase_movie": TwoPhaseMovie,
    "attention_and_settling": attention_and_settling,
    "looking_inside": looking_inside,
    "variant_picker": variant_picker,
}


@pytest.mark.parametrize("name", LIVE)
def test_every_live_picture_fits_any_page(name: str) -> None:
    live = LIVE[name]()
    assert_fits_any_page(live.png)
    assert_fits_any_page(fit_png(live.png, STORED_BYTES))


def test_every_explorer_of_the_package_is_among_them() -> None:
    files = {
        path.stem for path in (ROOT / "eqprop_lab" / "notebook" / "explorers").glob("[a-z]*.py")
    }
    assert files - set(LIVE) == {"activity_film", "small_networks"}


@pytest.mark.parametrize("kind", ["plot", "legend", "colorbar", "text", "bar"])
def test_what_a_reader_draws_fits_any_page_too(kind: str) -> None:
    apply_style()
    figure, axes = plt.subplots()
    if kind == "colorbar":
        figure.colorbar(axes.imshow(np.linspace(-1, 1, 64).reshape(8, 8), cmap=SIGNED), ax=axes)
    elif kind == "bar":
        axes.bar(range(4), [1, 2, 3, 4], edgecolor=matplotlib.rcParams["patch.edgecolor"])
    else:
        axes.plot([0, 1], [0, 1], label="a line")
        axes.set(title="A title", xlabel="x", ylabel="y")
    if kind == "legend":
        axes.legend()
    if kind == "text":
        axes.annotate(
            "here", (0.5, 0.5), (0.2, 0.8), arrowprops={"arrowstyle": "->"}, bbox={"fill": False}
        )
    assert_fits_any_page(encode_png(figure, 100))
    plt.close(figure)


def test_text_is_read_and_lines_are_seen_on_both_pages() -> None:
    apply_style()
    texts = [
        key
        for key in matplotlib.rcParams
        if key.endswith((".labelcolor", "titlecolor", "text.color"))
    ]
    colours = {
        matplotlib.rcParams[key] for key in (*texts, "text.color", "xtick.color", "ytick.color")
    }
    colours = {
        NEUTRAL if colour in ("auto", "inherit", "None", None) else f"#{colour.lstrip('#')}"
        for colour in colours
    }
    assert colours == {NEUTRAL}
    dark = tuple(value / 255 for value in DARK)
    assert contrast(NEUTRAL, "white") >= 4.5 and contrast(NEUTRAL, dark) >= 4.1
    assert all(contrast(colour, dark) >= 3 for colour in PALETTE)
    assert all(contrast(colour, "white") >= 2.2 for colour in PALETTE)


def test_a_live_dark_page_brightens_pictures_until_grey_text_is_read() -> None:
    dark = tuple(value / 255 for value in DARK)
    greys = [(value / 255,) * 3 for value in range(256)]
    assert max(min(contrast(grey, "white"), contrast(grey, dark)) for grey in greys) < 4.5
    page = re.escape("body[data-jp-theme-light=false] img.eqprop-picture")
    (factor,) = re.findall(page + r"{filter:brightness\(([\d.]+)\)}", title_html("A title"))
    lifted = tuple(min(1.0, float(factor) * part) for part in to_rgb(NEUTRAL))
    assert contrast(lifted, dark) >= 4.5
    assert 'class="eqprop-picture"' in img_html(b"", "", 1)


def test_a_map_fades_into_the_page() -> None:
    signed = fading("#ff0000", "#0000ff", strength=0.5)
    assert signed(0.0) == (1.0, 0.0, 0.0, 0.5) and signed(1.0) == (0.0, 0.0, 1.0, 0.5)
    assert signed(0.5)[3] < 0.01 and abs(signed(0.25)[3] - 0.25) < 0.01
    assert fading("#ff0000")(0.0)[3] == 0 and fading("#ff0000")(1.0) == (1.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="one colour, or two"):
        fading("red", "green", "blue")


def test_fewer_colours_keep_the_ground_transparent() -> None:
    figure = new_figure()
    figure.subplots().imshow(
        np.outer(np.sin(np.linspace(0, 9, 90)), np.linspace(0, 1, 90)), cmap=SIGNED
    )
    png = encode_png(figure, 100)
    fitted = fit_png(png, len(png) // 2)
    assert len(fitted) <= len(png) // 2
    for page in (WHITE, DARK):
        assert np.abs(on_page(png, page).astype(int) - on_page(fitted, page)).mean() < 3


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem
)
def test_every_stored_picture_fits_any_page(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = [
        base64.b64decode("".join(o["data"]["image/png"]))
        for o in outputs
        if "image/png" in o.get("data", {})
    ]
    assert pictures
    for png in pictures:
        assert_fits_any_page(png)


def test_every_file_of_a_figure_fits_any_page() -> None:
    files = sorted((ROOT / "figures").glob("*.png"))
    assert files
    for file in files:
        assert_fits_any_page(file.read_bytes())
