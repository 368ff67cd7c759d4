"""What the CIFAR-10 run trains: its options, images, recipe and the two trainers; a toy size of
each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.datasets import DataSet, Split, build_dataset
from eqprop_lab.experiments.config import ExperimentConfig, fit_experiment, make_trainer
from eqprop_lab.gpu.budget import Budget
from eqprop_lab.models.backprop import BackpropCNN
from eqprop_lab.models.conv import ConvEqProp
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.validation import positive_int, real

TWIN_OPTIONS = ("optimizer", "lr", "weight_decay", "schedule", "cost", "clip_norm")
TOY = {"hidden_channels": [4, 6], "kernel_size": [3, 4], "strides": [2, 2]}
TOY_EPOCHS, TOY_BATCH, TOY_IMAGES = 2, 16, 64
MEASURED_STEPS = 20
JPEG = "decoded from JPEG files, not the published pixels"


@dataclass(frozen=True)
class Options:
    """out: folder of results and checkpoints. data: folder of images (`image_folder`), or one with
    torchvision's cifar-10-batches-py; None is the project's data folder. minutes: of one call.
    epochs: instead of the recipe's.
    fill_minutes: as many epochs as take the equilibrium network that long, measured first. toy: two
    small layers, few images (drawn ones without `data`), two epochs. Raises: TypeError, ValueError
    naming the argument.
    """

    out: Path = Path("runs/gpu-check")
    data: Path | None = None
    minutes: float = 9.0
    epochs: int | None = None
    fill_minutes: float | None = None
    toy: bool = False

    def __post_init__(self) -> None:
        real("minutes", self.minutes, above=0.0)
        if self.epochs is not None:
            positive_int("epochs", self.epochs)
        if self.fill_minutes is not None:
            real("fill_minutes", self.fill_minutes, above=0.0)
            if self.epochs is not None:
                raise ValueError(
                    f"epochs ({self.epochs}) and fill_minutes ({self.fill_minutes}): give one of them"
                )


def drawn_images() -> DataSet:
    """Four classes of noisy 16x16 pictures, for a run that needs no files."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(4, 3, 16, 16, generator=generator)

    def draw(count: int) -> Split:
        y = torch.arange(count) % len(patterns)
        noise = torch.rand(count, 3, 16, 16, generator=generator)
        return Split(0.7 * patterns[y] + 0.3 * noise, y)

    return DataSet(
        "drawn",
        draw(TOY_IMAGES),
        draw(TOY_IMAGES // 2),
        draw(TOY_IMAGES // 2),
        ("a", "b", "c", "d"),
    )


def read_data(config: ExperimentConfig, options: Options) -> tuple[DataSet, str]:
    """(images, where their pixels come from). Raises as `build_dataset` does."""
    if options.data is None:
        return (
            (drawn_images(), "drawn")
            if options.toy
            else (build_dataset(config.data), "as published")
        )
    if (options.data / "cifar-10-batches-py").is_dir():
        return build_dataset({**config.data, "root": options.data}), "as published"
    source: dict[str, Any] = {"name": "image_folder", "root": options.data, "seed": config.seed}
    source |= (
        {"limit": TOY_IMAGES}
        if options.toy
        else {"validation": config.data.get("validation", 5000)}
    )
    data = build_dataset(source)
    lossy = any(file.suffix.lower() in (".jpg", ".jpeg") for file in options.data.rglob("*.*"))
    return data, JPEG if lossy else "from image files"


def fit_to_data(config: ExperimentConfig, data: DataSet, options: Options) -> ExperimentConfig:
    """The recipe for these images; a toy one if that is asked for. Raises ValueError for images of
    another size.
    """
    found = {"input_channels": data.input_shape[0], "output_dim": len(data.classes)}
    if options.toy:
        params = {**config.params, **TOY, **found, "image_size": list(data.input_shape[1:])}
        return replace(config, params=params, epochs=TOY_EPOCHS, batch_size=TOY_BATCH)
    if data.input_shape != (3, 32, 32) or len(data.classes) != 10:
        raise ValueError(
            f"data must hold 32x32 colour images of ten classes, got images of shape {data.input_shape} in "
            f"{len(data.classes)} classes"
        )
    return config


def network_trainer(network: str, config: ExperimentConfig, device: torch.device) -> EqPropTrainer:
    """A trainer of the equilibrium network, or of its twin, with weights in channels_last order."""
    if network == "backprop":
        model = make_trainer(config).model
        assert isinstance(model, ConvEqProp)
        options = {key: value for key, value in config.trainer.items() if key in TWIN_OPTIONS}
        twin = BackpropCNN.like(model, seed=config.seed)
        trainer = EqPropTrainer(twin, gradient="autograd", device=device, progress=False, **options)
    else:
        trainer = make_trainer(
            replace(config, trainer={**config.trainer, "device": device, "progress": False})
        )
    trainer.state.config = config.as_dict()
    # The order in which tensor cores read kernels; convolutions then write states in it too.
    trainer.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trainer


def measure_epoch(
    config: ExperimentConfig, data: DataSet, device: torch.device
) -> dict[str, float]:
    """Seconds of a training step (20 after 20 for warming up) and of what an epoch does beside its
    steps.
    """
    rows = min(MEASURED_STEPS * config.batch_size, len(data.train))
    few = replace(data, train=Split(data.train.x[:rows], data.train.y[:rows]))
    budget, trainer = Budget(minutes=1e6), network_trainer("eqprop", config, device)
    history = fit_experiment(replace(config, epochs=2), trainer, few, [budget])
    steps = -(-rows // config.batch_size)
    return {
        "step_seconds": history["seconds"][1] / steps,
        "other_seconds": budget.seconds[1] - history["seconds"][1],
    }


def epochs_in(minutes: float, measured: dict[str, float], batches: int) -> int:
    """How many epochs of `batches` steps take that long; at least one."""
    return max(
        1, int(60 * minutes / (batches * measured["step_seconds"] + measured["other_seconds"]))
    )
