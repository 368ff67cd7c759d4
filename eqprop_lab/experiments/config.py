"""Experiments as YAML files: four sections, every key and value checked before data is loaded.

    model:      {name: LoopedMLP, params: {hidden_dim: 256}}       or {preset: mnist_small, ...}
    training:   {epochs: 10, batch_size: 64, learning_rate: 1e-3, optimizer: adam, ...}
    data:       {dataset: digits, ...}                             or {dataset: python_docs, ...}
    experiment: {name: first_try, seed: 0}

`input_dim`, `output_dim`, `input_channels` and `image_size` follow from the data set where they are
left out, `vocab_size` and `max_seq_len` from the text. `training` takes the arguments of
EqPropTrainer (`learning_rate` is its `lr`), and `early_stopping`, the patience in epochs. `data`
takes the options of `build_dataset` or of a text (see `data`) and `augmentation` (see `sections`),
`experiment` also `use_wandb`, `use_tensorboard` and `project`, which the command `train` acts on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import eqprop_lab.algorithms.bioplausible  # noqa: F401 - the model of the rules gets its name
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.datasets.windows import TextSet
from eqprop_lab.devices import pick_device
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.experiments.data import build_data, check_options, data_name, facts_of
from eqprop_lab.experiments.sections import (
    check_sizes,
    read_augmentation,
    read_experiment,
    read_model,
)
from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.models.registry import model_registry
from eqprop_lab.seeding import seeded
from eqprop_lab.training import EarlyStopping, EqPropTrainer, History, seed_everything
from eqprop_lab.validation import a_path, known_keys, positive_int, shown
from eqprop_lab.yaml_files import YamlError, read_yaml

SECTIONS = ("model", "training", "data", "experiment")
_TRAINER = [
    name
    for name in inspect.signature(EqPropTrainer).parameters
    if name not in ("model", "lr", "progress")
]
TRAINING_KEYS = ("epochs", "batch_size", "learning_rate", "early_stopping", *_TRAINER)
EXPERIMENT_KEYS = ("name", "seed", "use_wandb", "use_tensorboard", "project")


class ConfigError(ValueError):
    """A configuration that cannot be used.

    The message names the file, the key and what is accepted.
    """


@dataclass(frozen=True)
class ExperimentConfig:
    """A checked experiment.

    params: complete arguments of the model; trainer: arguments of EqPropTrainer.
    """

    model: str
    params: dict[str, Any]
    trainer: dict[str, Any]
    data: dict[str, Any]
    experiment: dict[str, Any]
    epochs: int = 10
    batch_size: int = 64
    early_stopping: int | None = None
    augmentation: Augmentation | None = None

    @property
    def seed(self) -> int:
        """Seed of the model, the order of the batches and the global generators."""
        return int(self.experiment["seed"])

    def as_dict(self) -> dict[str, Any]:
        """The four sections with everything filled in, plain values only.

        `parse_config` reads them back.
        """
        training = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "early_stopping": self.early_stopping,
        }
        options = {
            ("learning_rate" if key == "lr" else key): value for key, value in self.trainer.items()
        }
        data = {("dataset" if key == "name" else key): value for key, value in self.data.items()}
        data["augmentation"] = False if self.augmentation is None else asdict(self.augmentation)
        model = {"name": self.model, "params": dict(self.params)}
        return {
            "model": model,
            "training": training | options,
            "data": data,
            "experiment": dict(self.experiment),
        }


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package; each can stand in the place of a path."""
    names = [
        entry.name for entry in resources.files("eqprop_lab").joinpath("assets/recipes").iterdir()
    ]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def config_file(path: str | Path) -> Path:
    """The file of a recipe of the package, or the path itself. Raises FileNotFoundError."""
    file = a_path("path", path)
    if str(path) in list_recipes():
        return Path(str(resources.files("eqprop_lab"))) / f"assets/recipes/{path}.yaml"
    if not file.is_file():
        raise FileNotFoundError(
            f"config {shown(str(path))} is no file and none of the recipes "
            f"{', '.join(list_recipes())}"
        )
    return file


def load_config(path: str | Path, device: str | None = None) -> ExperimentConfig:
    """Read and check a YAML experiment: a path, or the name of a recipe (`list_recipes`).

    device: in the place of the one it names.
    Raises: FileNotFoundError; ConfigError for bad YAML, unknown keys (naming the nearest), bad
    models or values.
    """
    file = config_file(path)
    try:
        content = read_yaml(file)
    except YamlError as error:
        raise ConfigError(str(error)) from error
    try:
        return parse_config(on_device(content, device) if isinstance(content, Mapping) else content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file.name}: {error}") from error


def on_device(content: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """The same config for another device (None: the one it names).

    Raises ValueError for one that is not here.
    """
    if device is None:
        return dict(content)
    return {
        **content,
        "training": {**(content.get("training") or {}), "device": str(pick_device(device))},
    }


def _section(content: Mapping[str, Any], name: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    section = {} if content.get(name) is None else content[name]
    if not isinstance(section, Mapping):
        raise TypeError(
            f"section {name!r} must be a mapping of keys to values, got {shown(section)}"
        )
    if "lr" in section and "learning_rate" in keys:
        raise ValueError("key of section 'training': 'lr' is called 'learning_rate' in a config")
    if keys:  # the options of a data set are its own
        known_keys(f"section {name!r}", section, keys)
    return dict(section)


def parse_config(content: Any) -> ExperimentConfig:
    """Check the four sections as Python data.

    Builds model and trainer once to check their values; loads no data.

    Raises: TypeError, ValueError naming the key, the value and what is accepted; DataUnavailable if
    a folder of images is not there and the sizes of the model are to follow from it.
    """
    if not isinstance(content, Mapping):
        raise TypeError(
            f"a config must be a mapping with the sections {', '.join(SECTIONS)}, "
            f"got {shown(content)}"
        )
    known_keys("the config", content, SECTIONS)
    model = _section(content, "model", ("name", "preset", "params"))
    training = _section(content, "training", TRAINING_KEYS)
    data = _section(content, "data")
    experiment = read_experiment(_section(content, "experiment", EXPERIMENT_KEYS))
    if "dataset" not in data:
        raise ValueError(f"data.dataset must name a data set, got the keys {sorted(data)}")
    source = data_name(data.pop("dataset"))
    augmentation = read_augmentation(data.pop("augmentation", False), source)
    check_options(source, data)
    options = {"name": source, **data}
    name, params = read_model(model, options, experiment["seed"])
    if isinstance(training.get("optimizer"), str):
        training["optimizer"] = training["optimizer"].lower()
    epochs = positive_int("training.epochs", training.pop("epochs", 10))
    size = positive_int("training.batch_size", training.pop("batch_size", 64))
    patience = training.pop("early_stopping", None)
    if patience is not None:
        positive_int("training.early_stopping", patience)
    if "learning_rate" in training:
        training["lr"] = training.pop("learning_rate")
    config = ExperimentConfig(
        name, params, training, options, experiment, epochs, size, patience, augmentation
    )
    make_trainer(config)
    return config


def make_trainer(
    config: ExperimentConfig, kind: Callable[..., EqPropTrainer] = EqPropTrainer
) -> EqPropTrainer:
    """A trainer with a fresh model, equal for equal configs; global generators are left alone.

    kind: what makes it of a model and options.
    """
    # Models without a seed of their own draw from the global generator.
    with seeded(config.seed):
        model = model_registry.create(config.model, **config.params)
    options = dict(config.trainer)
    if not any(isinstance(module, EquilibriumModel | LocalRule) for module in model.modules()):
        options.setdefault("gradient", "autograd")
    trainer = kind(model, **options)
    trainer.state.config = config.as_dict()
    return trainer


def build_experiment(
    config: ExperimentConfig, kind: Callable[..., EqPropTrainer] = EqPropTrainer
) -> tuple[EqPropTrainer, DataSet | TextSet]:
    """(trainer with a fresh model, as of `make_trainer`, data set or text).

    Raises as `build_data` does: DataUnavailable, ValueError.
    """
    trainer = make_trainer(config, kind)
    data = build_data(config.data)
    check_sizes(config.params, facts_of(data))
    return trainer, data


def fit_experiment(
    config: ExperimentConfig,
    trainer: EqPropTrainer,
    data: DataSet | TextSet,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> History:
    """Train on the training split, looking at the validation split after every epoch.

    The test split is not touched.

    Both are moved whole to the device of the trainer; augmentation changes the training images
    only.

    options: those of `EqPropTrainer.fit` (`checkpoint_path`, `resume`).
    """
    seed_everything(config.seed)
    stop = [] if config.early_stopping is None else [EarlyStopping(patience=config.early_stopping)]
    train, held_out = (split.to(trainer.device) for split in (data.train, data.validation))
    augment = {} if config.augmentation is None else {"augment": config.augmentation}
    loader = train.batches(config.batch_size, shuffle=True, seed=config.seed, **augment)
    held = held_out.batches(config.batch_size)
    return trainer.fit(loader, config.epochs, held, [*stop, *callbacks], **options)


def train_from_config(
    config: ExperimentConfig | Mapping[str, Any], callbacks: Sequence[Any] = ()
) -> tuple[EqPropTrainer, History]:
    """Build and train an experiment, checked already or as the four sections of a file.

    On one machine the same config gives the same curves, but for the seconds. Raises as
    `parse_config`, `build_dataset` and `EqPropTrainer.fit` do.
    """
    if not isinstance(config, ExperimentConfig):
        config = parse_config(config)
    trainer, data = build_experiment(config)
    return trainer, fit_experiment(config, trainer, data, callbacks)
