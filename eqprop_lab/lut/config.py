"""What a LUT network is, as plain values: a dataclass, a YAML file, or both.

    model_type: feedforward
    layer_type: random
    node_type: probabilistic
    encoder_config: {name: thermometer, num_bits: 4}
    node_input_dim: 6
    layer_widths: [1024, 1000]
    num_classes: 10
    runtime: {temperature: 1.0}

Structural parameters belong to the weights; what stands under `runtime` may be overridden later.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml

from eqprop_lab.files import replace_text
from eqprop_lab.lut.errors import as_value_error
from eqprop_lab.lut.nodes.base import MOST_INPUTS
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.lut.runtime import Runtime, drawn, read_runtime
from eqprop_lab.validation import (
    a_path,
    a_seed,
    arguments,
    integer,
    known_keys,
    one_of,
    positive_int,
    shown,
    switch,
)
from eqprop_lab.yaml_files import read_yaml

STRUCTURAL = (
    "model_type",
    "layer_type",
    "node_type",
    "encoder_config",
    "node_input_dim",
    "layer_widths",
    "num_classes",
)
# structural too, but with a default: whatever a file of weights must agree with
DEFAULTED = ("input_size", "layer_config", "node_config", "model_config")
FILLED_IN = ("count", "inputs", "input_size", "nodes", "generator", "number")  # by the model

STORED_WIRING = ("random", "fixed")


def alike(name: str, one: object, other: object) -> bool:
    """Whether weights of one value of a structural parameter fit the other.

    Pins of `random` and of `fixed` are both what the file of weights says.
    """
    stored = name == "layer_type" and one in STORED_WIRING and other in STORED_WIRING
    return stored or one == other


@dataclass
class ModelConfig:
    """Configuration of a LUT network.

    Args:
        model_type, layer_type, node_type: names in the REGISTRY: the model, how its pins are wired,
            its nodes. encoder_config: name and arguments of the encoder. node_input_dim: inputs n
            of a node, 1 to 8: a table has 2^n entries.
        layer_widths: nodes of each layer, the last a multiple of num_classes (or runtime
            head_padding).
        runtime: see `runtime.Runtime`. pretrained: trained weights belong to it, under
            pretrained_name or beside its file.
        dataset: a note. input_size: features of a sample; None: known when the encoder is fitted.
        seed: of wiring and first parameters. metadata: kept as it is.
        layer_config, node_config, model_config: further arguments of the layer, the node and the
            model type.
    Raises: ValueError naming the field; everything given is copied.
    """

    model_type: str
    layer_type: str
    node_type: str
    encoder_config: dict[str, Any]
    node_input_dim: int
    layer_widths: list[int]
    num_classes: int
    runtime: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    pretrained_name: str | None = None
    dataset: str | None = None
    input_size: int | None = None
    seed: int = 42
    metadata: dict[str, Any] = field(default_factory=dict)
    layer_config: dict[str, Any] = field(default_factory=dict)
    node_config: dict[str, Any] = field(default_factory=dict)
    model_config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in fields(self):
            setattr(self, entry.name, copy.deepcopy(getattr(self, entry.name)))
        self.validate()

    def validate(self) -> None:
        """Raise ValueError for the first field that says what cannot be built.

        Fields may be set one by one; whatever builds or writes a configuration looks at it again.
        """
        with as_value_error():
            for name in ("model_type", "layer_type", "node_type"):
                REGISTRY.get(name.removesuffix("_type"), getattr(self, name), name)
            self.node_input_dim = integer(
                "node_input_dim",
                self.node_input_dim,
                at_most=MOST_INPUTS,
                accepted=f"an integer from 1 to {MOST_INPUTS}: a table has 2^n entries, "
                "more than 256 are refused",
            )
            self._check_widths()
            self._check_optional()
            self._check_named("encoder", "encoder_config", self.encoder_config)
            for kind in ("layer", "node"):
                options = {"name": getattr(self, f"{kind}_type")}
                section = getattr(self, f"{kind}_config")
                self._check_mapping(f"{kind}_config", section)
                self._check_named(kind, f"{kind}_config", options | section)
            self._check_model()
            settings = read_runtime(self.runtime)
            self._try(settings)
            if self.layer_widths[-1] % self.num_classes and not settings.head_padding:
                raise ValueError(
                    f"layer_widths must end in a multiple of num_classes={self.num_classes}, got "
                    f"{self.layer_widths[-1]}; runtime head_padding: true gives some classes one "
                    "output less"
                )

    def _try(self, settings: Runtime) -> None:
        """Draw and penalise one node: arguments of functions are looked at by the functions."""
        node = REGISTRY.get("node", self.node_type)(1, self.node_input_dim, **self.node_config)
        node.check(settings)
        if settings.init_fn is not None:
            with warnings.catch_warnings(), as_value_error(f"init_fn {settings.init_fn}: "):
                warnings.simplefilter("ignore")  # it is heard where the model is built
                drawn(node, settings.init_fn, settings.init_kwargs, torch.Generator(device="cpu"))
        for name, (_, options) in settings.regularizers.items():
            with as_value_error(f"regularizers.{name}: "), torch.no_grad():
                REGISTRY.get("regularizer", name)(node.table(1.0), **options)

    def _check_widths(self) -> None:
        if not isinstance(self.layer_widths, list | tuple) or not self.layer_widths:
            raise ValueError(
                "layer_widths must be a list of the nodes of each layer, got "
                f"{shown(self.layer_widths)}"
            )
        self.layer_widths = [
            positive_int(f"layer_widths[{number}]", width)
            for number, width in enumerate(self.layer_widths)
        ]
        self.num_classes = positive_int("num_classes", self.num_classes)
        if self.layer_widths[-1] < self.num_classes:
            raise ValueError(
                f"layer_widths must end in at least num_classes={self.num_classes} nodes, got "
                f"{self.layer_widths[-1]}"
            )

    def _check_model(self) -> None:
        """model_config, by the model type: most have none."""
        self._check_mapping("model_config", self.model_config)
        check = getattr(REGISTRY.get("model", self.model_type), "check_options", None)
        if check is not None:
            check(self.model_config, self.input_size)
        elif self.model_config:
            raise ValueError(
                f"model_config must be empty for {self.model_type!r}, got "
                f"{shown(self.model_config)}"
            )

    def _check_optional(self) -> None:
        self.pretrained = switch("pretrained", self.pretrained)
        self.seed = a_seed("seed", self.seed)
        if self.input_size is not None:
            self.input_size = positive_int("input_size", self.input_size)
        for name in ("pretrained_name", "dataset"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise ValueError(f"{name} must be a text or None, got {shown(value)}")
        self._check_mapping("metadata", self.metadata)

    @staticmethod
    def _check_mapping(name: str, value: object) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{name} must be a mapping of names to values, got {shown(value)}")

    def _check_named(self, kind: str, name: str, section: Any) -> None:
        """A section {name: ..., argument: value} that what it names can be built from."""
        self._check_mapping(name, section)
        if "name" not in section:
            raise ValueError(f"{name} must have a name, got {shown(section)}")
        entry = REGISTRY.get(kind, section["name"], f"{name}.name")
        options = {key: value for key, value in section.items() if key != "name"}
        taken = arguments(entry)
        if taken is not None:
            own = [key for key in taken if key not in FILLED_IN]
            for key in options:
                known_keys(name, [key], ["name", *own])
        with as_value_error(f"{name}: "):
            if kind == "encoder":
                entry(**options)
            elif kind == "node":
                entry(1, self.node_input_dim, **options)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain values, copied."""
        return copy.deepcopy(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The configuration of a mapping of fields. Raises ValueError naming the field."""
        cls._check_mapping("a configuration", values)
        known = [entry.name for entry in fields(cls)]
        for key in values:
            one_of("field of the configuration", key, known)
        for key in STRUCTURAL:
            if key not in values:
                raise ValueError(f"Missing required field in config: {key}")
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ModelConfig:
        """The configuration of a YAML file.

        Raises FileNotFoundError; ValueError naming file and field (YamlError is one).
        """
        file = a_path("path", path)
        if not file.is_file():
            raise FileNotFoundError(f"Configuration file not found: {file}")
        values = read_yaml(file)
        with as_value_error(f"{file}: "):
            return cls.from_dict(values)

    def to_yaml(self, path: str | Path) -> Path:
        """Write the configuration as YAML, fields that say nothing left out; returns the path.

        Raises ValueError naming the field, before anything is written; OSError.
        """
        self.validate()
        said = {key: value for key, value in self.to_dict().items() if value not in (None, {})}
        try:
            text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            raise ValueError(f"runtime and metadata must hold plain values: {error}") from error
        return replace_text(a_path("path", path), text)

    def save_to_pretrained(self, name: str, folder: str | Path) -> Path:
        """Write it as `<folder>/<model_type>/<name>.yaml`, and return the path."""
        return self.to_yaml(a_path("folder", folder) / self.model_type / f"{name}.yaml")

    def is_compatible_with_weights(self, other: ModelConfig) -> bool:
        """Whether weights of `other` fit: all structural parameters are equal (see `alike`)."""
        names = (*STRUCTURAL, *DEFAULTED)
        return all(alike(name, getattr(self, name), getattr(other, name)) for name in names)

    def get_layer_depth(self) -> int:
        """Number of layers."""
        return len(self.layer_widths)

    def get_total_params_estimate(self) -> int:
        """Parameters of the nodes of this type; wirings that learn have more."""
        node = REGISTRY.get("node", self.node_type)(1, self.node_input_dim, **self.node_config)
        nodes = sum([*self.model_config.get("channels", []), *self.layer_widths])
        return nodes * sum(p.numel() for p in node.parameters())
