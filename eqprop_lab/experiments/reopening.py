"""A stored model again: the trainer that a checkpoint describes, with the model in it."""

from __future__ import annotations

from pathlib import Path

from eqprop_lab.experiments.config import (
    ExperimentConfig,
    load_config,
    make_trainer,
    on_device,
    parse_config,
)
from eqprop_lab.experiments.runs import CHECKPOINT
from eqprop_lab.training import CheckpointError, EqPropTrainer
from eqprop_lab.training.checkpoint import read


def load(
    path: Path, config_path: str | None = None, device: str | None = None
) -> tuple[EqPropTrainer, ExperimentConfig]:
    """The trainer a checkpoint describes, with the stored model in it.

    path: of a checkpoint, or the folder of a run.
    Raises CheckpointError, ValueError.
    """
    if path.is_dir():
        path /= CHECKPOINT
    if config_path is not None:
        config = load_config(config_path, device)
    else:
        stored = read(path)["config"]
        if stored is None:
            raise CheckpointError(
                f"{path} carries no config: name the one it was trained with, --config FILE"
            )
        config = parse_config(on_device(stored, device))
    trainer = make_trainer(config)
    trainer.load_checkpoint(path)
    return trainer, config
