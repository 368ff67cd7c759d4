"""What an experiment will need, before it starts: parameters, and memory of a training step."""

from __future__ import annotations

from dataclasses import dataclass

from eqprop_lab.datasets.registry import SOURCES
from eqprop_lab.experiments.config import ExperimentConfig, make_trainer
from eqprop_lab.instruments.memory import OURS, estimate_memory_usage
from eqprop_lab.notebook.dashboard.choices import SEQ_LEN
from eqprop_lab.utils import count_parameters


@dataclass(frozen=True)
class Needs:
    """Parameters of the model, MiB of tensors at the peak of a step, and where `.grad` comes from.

    states_mb: the part of it that grows with the batch.
    """

    parameters: int
    total_mb: float
    states_mb: float
    gradient: str

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters; a training step takes about "
            f"{self.total_mb:.1f} MiB of tensors, "
            f"{self.states_mb:.1f} of them grow with the batch; gradient: {self.gradient}"
        )


def needs(config: ExperimentConfig) -> Needs:
    """What the experiment needs: a few steps of a copy with two and four samples; no data is read.

    Raises ValueError, TypeError for what cannot be trained.
    """
    trainer = make_trainer(config)
    name = config.data["name"]
    shape = SOURCES[name].shape if name in SOURCES else (SEQ_LEN,)
    assert shape is not None, "the dashboard offers no folders of images"
    steps = {"tol", "device", "use_compile"} | OURS
    options = {key: value for key, value in config.trainer.items() if key not in steps}
    memory = estimate_memory_usage(
        trainer.model, shape, config.batch_size, trainer.gradient, **options
    )
    count = count_parameters(trainer.model)
    return Needs(count, memory["total_mb"], memory["states_mb"], trainer.gradient)
