"""What the latency benchmark measures: every explorer of the package, and a training cockpit, as
notebook cells.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from eqprop_lab.notebook import Explorer, explorers

# Explorers that need more than their start values; a cell ends with the object.
CELLS = {
    "AblationSlices": """from eqprop_lab import ablation_study
from eqprop_lab.notebook.explorers.ablation_slices import AblationSlices

@ablation_study
def grid():
    return {"beta": [0.1, 1.0], "nudged_steps": [1, 4, 12], "rho": [0.5, 0.95]}

def error(beta, nudged_steps, rho, seed):
    return rho**nudged_steps + beta**2 + seed / 100

AblationSlices({"error": grid.run(error, 5)})""",
    "AttentionAndSettling": """import torch
from eqprop_lab import TransformerEqProp
from eqprop_lab.notebook.explorers.attention_and_settling import AttentionAndSettling

texts = torch.randint(65, (4, 32), generator=torch.Generator().manual_seed(0))
model = TransformerEqProp(65, 32, 2, 32, seed=0)

AttentionAndSettling(model, texts, model.vocab.symbols)""",
    "DecisionBoundary": """from eqprop_lab import LoopedMLP
from eqprop_lab.notebook.explorers.decision_boundary import DecisionBoundary

DecisionBoundary([LoopedMLP(2, 32, 2, rho=rho, seed=0) for rho in (0.3, 0.5, 0.7, 0.9)])""",
    "DiscretisationGap": """from eqprop_lab import build_dataset
from eqprop_lab.lut import ModelConfig, build_model
from eqprop_lab.notebook.explorers.discretisation_gap import DiscretisationGap

def network(std):
    runtime = {"init_fn": "normal", "init_std": std}
    kind = "feedforward", "random", "probabilistic", {"name": "thermometer"}
    model = build_model(ModelConfig(*kind, 6, [200, 200, 200], 10, runtime=runtime))
    model.fit_encoder(data.x)
    return model

data = build_dataset("digits").test
networks = {(f"std {std}", rate): network(std) for std in (0.1, 1.0) for rate in (0.02, 0.1)}

DiscretisationGap(networks, data.x, data.y)""",
    "KernelCosts": """from eqprop_lab.notebook.explorers import kernel_costs

costs = dict.fromkeys((*kernel_costs.TIMES, *kernel_costs.SPACES), 3.0)
rows = [{"hidden": 32, "steps": steps, **costs} for steps in (10, 30, 100)]

kernel_costs.KernelCosts(rows)""",
    "LayerActivity": """from eqprop_lab import ConvEqProp, build_dataset
from eqprop_lab.notebook.explorers.layer_activity import LayerActivity

data = build_dataset("digits").validation

LayerActivity(ConvEqProp(1, 16, 10, image_size=8, seed=0), data.x[:20], data.y[:20])""",
    "ChainOfBlocks": """from eqprop_lab.notebook.explorers.chain_of_blocks import ChainOfBlocks

ChainOfBlocks()""",
    "ErrorSweeps": """from eqprop_lab.notebook.explorers.error_sweeps import ErrorSweeps

ErrorSweeps()""",
    "LookingInside": """from eqprop_lab import ConvEqProp, ResNetCifar, build_dataset
from eqprop_lab.notebook.explorers.looking_inside import LookingInside

data = build_dataset("digits").validation
networks = {"CNN": ResNetCifar(8, 10, 1, seed=0), "settles": ConvEqProp(1, 8, 10, image_size=8)}

LookingInside(networks, data.x[:20], data.y[:20])""",
    "ScaleOut": """from eqprop_lab.instruments.scaling import StepTime
from eqprop_lab.notebook.explorers.scale_out import ScaleOut

steps = {"EqProp": StepTime(1e-3, 2e-5), "backprop": StepTime(2e-4, 2e-6)}

ScaleOut(steps, 10_000, 10)""",
    "EnsembleTemperature": """import torch

from eqprop_lab import BackpropMLP, build_dataset
from eqprop_lab.notebook.explorers.ensemble_temperature import EnsembleTemperature

data = build_dataset("digits").validation
with torch.no_grad():
    logits = torch.stack([BackpropMLP(64, 16, 10, seed=seed)(data.x) for seed in range(5)])

EnsembleTemperature(logits, data.y)""",
    "VariantPicker": """from eqprop_lab import get_eqprop_lm
from eqprop_lab.notebook.explorers.variant_picker import Candidate, VariantPicker

model = get_eqprop_lm("looped_mlp", vocab_size=96, hidden_dim=32, embed_dim=4, seed=0)

def write(temperature, draw):
    return model.generate("The ", max_new_tokens=20, temperature=temperature, seed=draw)

VariantPicker({"looped_mlp": Candidate([(0, 4.6), (100, 2.5)], {"loss": "2.5"}, {}, write)})""",
}

COCKPIT = """from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.notebook import TrainingCockpit

data = build_dataset("digits")

def make_trainer(values):
    trainer = EqPropTrainer(LoopedMLP(64, 64, 10, seed=0), lr=3e-3)
    return trainer, data.train.batches(64, shuffle=True), data.validation.batches(180)

TrainingCockpit(make_trainer, epochs=1000)"""


def explorer_cells() -> dict[str, str]:
    """{class name: source of a cell that shows it} for every explorer of the package."""
    cells = {}
    for module in pkgutil.iter_modules(explorers.__path__, f"{explorers.__name__}."):
        for name, member in vars(importlib.import_module(module.name)).items():
            if (
                inspect.isclass(member)
                and issubclass(member, Explorer)
                and member.__module__ == module.name
            ):
                cells[name] = CELLS.get(name, f"from {module.name} import {name}\n\n{name}()")
    return cells


def made_by(cell: str) -> Any:
    """The object a cell ends with."""
    statements, _, expression = cell.rpartition("\n\n")
    scope: dict[str, Any] = {}
    exec(statements, scope)
    return eval(expression, scope)
