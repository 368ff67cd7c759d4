"""What "Copy as parameters" gives is the notebook's own: its names, its types, round values, and it
runs there.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest

from eqprop_lab.notebook import Slider
from eqprop_lab.notebook.panel import Controls
from tests.benchmarks.subjects import explorer_cells, made_by

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
HOMES = {
    "BitsOfAState": ("17_serve_and_quantise", {"bits"}),
    "DecisionBoundary": ("00_start_here", {"noise", "beta"}),
    "EnergyLandscape": ("01_energy_dynamics", {"coupling"}),
    "RelaxationExplorer": ("01_energy_dynamics", set()),
    "StabilityMap": ("02_spectral_norm", {"cap"}),
    "TwoPhaseMovie": ("03_two_phases_and_gradients", {"beta"}),
    "GradientCompass": ("03_two_phases_and_gradients", {"beta", "skew"}),
    "GammaAndRho": ("05_conv_eqprop", {"gamma", "rho"}),
    "LayerActivity": ("05_conv_eqprop", {"beta"}),
    "AttentionAndSettling": ("06_transformer_eqprop", set()),
    "VariantPicker": ("07_lm_variants", set()),
    "KernelCosts": ("08_kernel", {"free_steps", "hidden_dim"}),
    "ErrorSweeps": ("21_predictive_coding", {"beta", "depth"}),
    "NoiseAndBeta": ("22_noise_and_precision", {"noise"}),
    "ChainOfBlocks": ("23_blocks", {"beta", "blocks"}),
    "Playground": ("13_vision_playground", {"epochs"}),
    "LookingInside": ("14_looking_inside", set()),
    "AblationSlices": ("15_sweeps_and_ablations", set()),
    "EnsembleTemperature": ("16_ensembles_distillation_transfer", {"members"}),
    "PrecisionAndNudge": ("09_acceleration_and_export", {"beta"}),
    "RulePicker": ("10_algorithm_comparison", {"learning_rate"}),
    "OneLUT": ("11_lut_networks", set()),
    "DiscretisationGap": ("11_lut_networks", set()),
    "TableFaults": ("12_lut_hardware", {"rate"}),
    "ScaleOut": ("20_scale_out", set()),
}


def parameters_cell(notebook: str) -> str:
    cells = nbformat.read(FOLDER / f"{notebook}.ipynb", 4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return str(cell.source)


@pytest.mark.parametrize("name", explorer_cells())
def test_what_is_copied_runs_below_the_parameters_of_its_notebook(name: str) -> None:
    notebook, shared = HOMES[name]
    explorer = made_by(explorer_cells()[name])
    before: dict[str, Any] = {}
    exec(parameters_cell(notebook), before)
    scope: dict[str, Any] = {}
    exec(parameters_cell(notebook) + "\n" + explorer.parameters(), scope)
    own = {
        node.target.id
        for node in ast.parse(parameters_cell(notebook)).body
        if isinstance(node, ast.AnnAssign)
    }
    copied = {
        node.target.id
        for node in ast.parse(explorer.parameters()).body
        if isinstance(node, ast.AnnAssign)
    }
    assert copied & own == shared
    for control in explorer.make_controls():
        parameter = getattr(control, "parameter", "") or control.name
        assert scope[parameter] == explorer.values[control.name]
        assert type(scope[parameter]) is type(before.get(parameter, scope[parameter]))


@pytest.mark.parametrize(
    ("sent", "value"),
    [(10**-1.5, 0.0316), (0.30000000000000004, 0.3), (0.0009999999999999998, 0.001), (1.0, 1.0)],
)
def test_values_from_a_page_are_round(sent: float, value: float) -> None:
    controls = Controls([Slider("beta", 0.001, 1.0, 0.01, 0.1, "beta", log=True)], lambda: None, {})
    controls.widgets["beta"].value = sent
    assert (
        controls.values["beta"] == value
        and f"beta: float = {value!r}  #" in controls.as_parameters()
    )


def test_the_cell_has_the_notebooks_name_for_a_control() -> None:
    slider = Slider("hidden", 16, 256, 64, 16, "hidden units", parameter="hidden_dim")
    assert (
        Controls([slider], lambda: None, {}).as_parameters()
        == "hidden_dim: int = 64  # hidden units"
    )
