"""A network by what a command line can say of it: a name, a file, a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from eqprop_lab.acceleration import uncompile_model
from eqprop_lab.experiments.presets import create_model_preset, list_presets
from eqprop_lab.experiments.reopening import load
from eqprop_lab.experiments.runs import CHECKPOINT
from eqprop_lab.experiments.trained import ENDING, list_trained, load_trained
from eqprop_lab.lut import get_pretrained_model_info, list_pretrained_models, load_pretrained
from eqprop_lab.validation import one_of

PRESET_SEED = 0


@dataclass(frozen=True)
class Opened:
    """A network in eval mode, its name, and whether it was trained: a preset is not."""

    name: str
    model: nn.Module
    trained: bool = True


def lookup_networks() -> list[str]:
    """The LUT networks that come with weights."""
    named = {name for names in list_pretrained_models().values() for name in names}
    return sorted(name for name in named if get_pretrained_model_info(name)["has_weights"])


def open_model(name: str, runs: str | Path = "runs", device: str | None = None) -> Opened:
    """The network of a name: one that comes trained, a LUT network, a preset (with weights of seed
    0), a file of `save_trained`, a checkpoint, a folder of a run or the id of one in `runs`.

    Raises: ValueError for a name that is none of them; what loading raises.
    """
    opened = _found(name, Path(runs) / name, device)
    for module in opened.model.modules():
        uncompile_model(module)
    if device is not None:
        opened.model.to(device)
    opened.model.eval()
    return opened


def _found(name: str, run: Path, device: str | None) -> Opened:
    path = Path(name)
    if name in list_trained():
        return Opened(name, load_trained(name))
    if name in lookup_networks():
        return Opened(name, load_pretrained(name))
    if name in list_presets(constructible=True):
        return Opened(name, create_model_preset(name, seed=PRESET_SEED), trained=False)
    if name.endswith(ENDING):
        return Opened(path.stem, load_trained(path))
    if not path.exists() and not (run / CHECKPOINT).is_file():
        known = [*list_trained(), *lookup_networks(), *list_presets(constructible=True)]
        one_of("name", name, [*known, f"a file, or a run in {run.parent}"])
    found = path if path.exists() else run
    trainer, _ = load(found, device=device)
    label = found.resolve().parent.name if found.name == CHECKPOINT else found.stem
    return Opened(label, trainer.model)
