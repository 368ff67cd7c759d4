"""Models from a name, a YAML file or a configuration.

    model = build_model("digits_small")                        trained, in eval mode
    model = build_model("configs/mine.yaml")                   as its file says
    model = build_model(config, overrides={"temperature": 0.5})

A name is looked for in the package and in `pretrained/` of the working folder, as
`<model_type>/<name>.yaml` with its weights `<name>.pth` beside it.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.lut.config import ModelConfig
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import a_path, one_of, shown, switch

YAML = (".yaml", ".yml")
WEIGHTS = ".pth"


def build_model(
    source: str | Path | ModelConfig,
    load_weights: bool = True,
    overrides: dict[str, Any] | None = None,
    pretrained_dir: str | Path | None = None,
) -> BaseLUTModel:
    """A LUT network, with trained weights where its source promises some.

    source: a pretrained name (`list_pretrained_models`), "type/name", the path of a YAML file, or a
        ModelConfig. load_weights: False leaves the first parameters; True takes the weights of a
        name, and of a configuration that says `pretrained: true`.
    overrides: runtime parameters of this model; the configuration that is given stays as it is.
    pretrained_dir: where names are looked for instead.
    Raises: FileNotFoundError for a name or file that is not there, or weights that are promised and
    missing; ValueError naming what cannot be built.
    """
    wanted = switch("load_weights", load_weights)
    config, path = _configuration(source, pretrained_dir)
    model: BaseLUTModel = REGISTRY.get("model", config.model_type, "model_type")(config)
    if overrides is not None:
        model.apply_runtime_overrides(overrides)
    by_name = isinstance(source, str) and not source.endswith(YAML)
    if not wanted or not (config.pretrained or by_name):
        return model
    weights = _weights(config, path, pretrained_dir)
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is missing: {shown(source)} comes without trained weights; "
            "load_weights=False builds it untrained"
        )
    model.load_weights(str(weights))
    return model.eval()


def _configuration(
    source: object, pretrained_dir: str | Path | None
) -> tuple[ModelConfig, Path | None]:
    """The configuration, and the file that it was read from."""
    if isinstance(source, ModelConfig):
        return source, None
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith(YAML)):
        path = a_path("source", source)
    elif isinstance(source, str):
        path = _find(source, pretrained_dir)
    else:
        raise ValueError(
            "source must be a pretrained name, the path of a YAML file or a ModelConfig, got "
            f"{shown(source)}"
        )
    return ModelConfig.from_yaml(path), path


def _weights(config: ModelConfig, path: Path | None, pretrained_dir: str | Path | None) -> Path:
    """The weights that a configuration promises: beside its file, or those of its name."""
    own = None if path is None else path.with_suffix(WEIGHTS)
    if own is not None and (own.is_file() or config.pretrained_name is None):
        return own
    if config.pretrained_name is None:
        raise ValueError("pretrained_name must be given with pretrained=True, got None")
    try:
        return _find(config.pretrained_name, pretrained_dir).with_suffix(WEIGHTS)
    except FileNotFoundError:
        if own is None:
            raise
        return own


def _folders(pretrained_dir: str | Path | None) -> list[Path]:
    """Where names are looked for."""
    if pretrained_dir is not None:
        return [a_path("pretrained_dir", pretrained_dir)]
    shipped = Path(str(resources.files("eqprop_lab").joinpath("lut/pretrained")))
    own = Path("pretrained").resolve()
    return [shipped] if own == shipped.resolve() else [shipped, own]


def _files(pretrained_dir: str | Path | None) -> dict[str, list[Path]]:
    """Configuration files by name, and by type/name."""
    found: dict[str, list[Path]] = {}
    for folder in _folders(pretrained_dir):
        for path in sorted(folder.glob("*/*.yaml")):
            for name in (path.stem, f"{path.parent.name}/{path.stem}"):
                found.setdefault(name, []).append(path)
    return found


def _find(name: str, pretrained_dir: str | Path | None) -> Path:
    """The configuration file of a name. Raises FileNotFoundError; ValueError for one of two."""
    files = _files(pretrained_dir).get(name, [])
    if len(files) > 1:
        raise ValueError(
            f"source: {name!r} is the name of {len(files)} models, {', '.join(map(str, files))}; "
            "give the path of one, or pretrained_dir"
        )
    if not files:
        folders = " and ".join(map(str, _folders(pretrained_dir)))
        raise FileNotFoundError(
            f"Pretrained model {shown(name)} not found in {folders}. "
            f"Available models: {list_pretrained_models(pretrained_dir)}"
        )
    return files[0]


def load_pretrained(name: str, **kwargs: Any) -> BaseLUTModel:
    """`build_model` of a name, with its weights; further arguments are those of `build_model`.

    Raises: as `build_model`, and ValueError for arguments it does not have.
    """
    for key in kwargs:
        one_of("argument of load_pretrained", key, ("overrides", "pretrained_dir"))
    return build_model(name, load_weights=True, **kwargs)


def list_pretrained_models(pretrained_dir: str | Path | None = None) -> dict[str, list[str]]:
    """Names by model type: {"feedforward": ["cifar10_large", ...]}."""
    found: dict[str, list[str]] = {}
    for name, files in sorted(_files(pretrained_dir).items()):
        if "/" not in name:
            for path in files:
                found.setdefault(path.parent.name, []).append(name)
    return found


def get_pretrained_model_info(
    name: str, pretrained_dir: str | Path | None = None
) -> dict[str, Any]:
    """What is known about a pretrained model, without building it. Raises as `build_model`.

    Keys: config, has_weights, config_path, weights_path (None without), model_type, layer_widths,
    num_classes, dataset, metadata.
    """
    path = _find(name, pretrained_dir)
    config = ModelConfig.from_yaml(path)
    weights = path.with_suffix(WEIGHTS)
    there = weights.is_file()
    return {
        "config": config,
        "has_weights": there,
        "config_path": path,
        "weights_path": weights if there else None,
        "model_type": config.model_type,
        "layer_widths": config.layer_widths,
        "num_classes": config.num_classes,
        "dataset": config.dataset,
        "metadata": config.metadata,
    }
