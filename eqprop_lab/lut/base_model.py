"""What every LUT network can do: runtime overrides, penalties, files, truth tables."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.inputs import check_input
from eqprop_lab.lut import weights
from eqprop_lab.lut.config import ModelConfig
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.nodes.base import LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.lut.runtime import CHECKS, drawn, is_init, read_runtime
from eqprop_lab.lut.wiring import FixedWiring
from eqprop_lab.validation import arguments, shown

WIRING, PARAMETERS, SAMPLING = range(3)  # what a seed is used for


def derived(seed: int, layer: int, use: int) -> int:
    """A seed of its own for each layer and use."""
    return int(np.random.SeedSequence([seed, layer, use]).generate_state(1)[0])


def _drawer(seed: int, layer: int, use: int) -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(derived(seed, layer, use))


def _plain(value: object) -> object:
    return repr(dict(value)) if isinstance(value, Mapping) else value


class BaseLUTModel(nn.Module, ABC):
    """Base of LUT networks: x -> logits.

    A subclass builds its layers by `make_layer` and says what `forward` does.
    Raises: TypeError for what is no ModelConfig, ValueError for one that does not hold together.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config must be a ModelConfig, got {shown(config)}")
        self.config = replace(config)  # copied and looked at
        self.runtime = self.asked = read_runtime(self.config.runtime)

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes)."""

    def lut_layers(self) -> list[LUTLayer]:
        """The layers of LUTs, first to last."""
        return [module for module in self.modules() if isinstance(module, LUTLayer)]

    def make_layer(self, number: int, input_size: int, width: int, fan_out: float) -> LUTLayer:
        """Layer `number` of the configured kind, wired and with first parameters."""
        config = self.config
        node = REGISTRY.get("node", config.node_type)
        nodes: LUTNodes = node(width, config.node_input_dim, **config.node_config)
        nodes.fan_out = fan_out
        self._draw(nodes, number)
        make = REGISTRY.get("layer", config.layer_type)
        options = dict(config.layer_config)
        if "number" in (arguments(make) or ()):
            options["number"] = number
        layer: LUTLayer = make(input_size, nodes, _drawer(config.seed, number, WIRING), **options)
        layer.use(self.runtime, self._sampling_seed(number))
        return layer

    def _draw(self, nodes: LUTNodes, number: int) -> None:
        """First parameters, from a generator of their own."""
        name, given = nodes.default_init
        if self.runtime.init_fn is not None:
            name, given = self.runtime.init_fn, dict(self.runtime.init_kwargs)
        drawn(nodes, name, given, _drawer(self.config.seed, number, PARAMETERS))

    def _sampling_seed(self, number: int) -> int:
        given = self.runtime.sampling_seed
        return derived(self.config.seed if given is None else given, number, SAMPLING)

    def reset_parameters(self) -> None:
        """Draw the first parameters of all nodes anew, as the runtime parameters init_* say."""
        for number, layer in enumerate(self.lut_layers()):
            self._draw(layer.nodes, number)

    def apply_runtime_overrides(self, overrides: dict[str, Any]) -> None:
        """Change runtime parameters of this model, and of nothing else.

        Raises ValueError naming the key, nothing is changed then. Warns for init_*, which act when
        parameters are drawn: in `reset_parameters`.
        """
        if not isinstance(overrides, Mapping):
            raise ValueError(f"overrides must be a mapping, got {shown(overrides)}")
        for key in overrides:
            if key in {entry.name for entry in fields(ModelConfig)}:
                raise ValueError(
                    f"{key} is structural: it belongs to the weights and cannot be overridden; "
                    f"runtime parameters are {', '.join(CHECKS)}"
                )
        self.config = replace(self.config, runtime={**self.config.runtime, **overrides})
        self.runtime = self.asked = read_runtime(self.config.runtime)
        if self.lut_layers() and any(is_init(key) for key in overrides):
            warnings.warn(
                "init_* changes no parameters that are there: reset_parameters() draws them anew",
                UserWarning,
                stacklevel=2,
            )
        self.on_runtime_update()

    def schedule(self, overrides: dict[str, Any]) -> None:
        """`apply_runtime_overrides` by a schedule: what was asked for stays what it was."""
        asked = self.asked
        self.apply_runtime_overrides(overrides)
        self.asked = asked

    def training_settings(self) -> dict[str, Any]:
        """The runtime parameters that were asked for: a resumed fit must have the same."""
        return {
            f"runtime.{entry.name}": _plain(getattr(self.asked, entry.name))
            for entry in fields(self.asked)
        }

    def on_runtime_update(self) -> None:
        """Hand `self.runtime` to the parts; a subclass with other parts goes on from here."""
        for number, layer in enumerate(self.lut_layers()):
            layer.use(self.runtime, self._sampling_seed(number))

    def get_regularization_loss(self) -> torch.Tensor:
        """sum_r weight_r mean_layers r(table): added to the cost in training."""
        total = torch.zeros((), device=next(self.parameters()).device)
        layers = self.lut_layers()
        for name, (weight, options) in self.runtime.regularizers.items():
            penalty = REGISTRY.get("regularizer", name)
            for layer in layers:
                table = layer.nodes.table(self.runtime.temperature)
                total = total + weight / len(layers) * penalty(table, **options)
        return total

    @torch.no_grad()
    def truth_tables(self) -> list[Tensor]:
        """What the hard network looks up: (O, 2^n) of bool for each layer, lowest bit first."""
        return [layer.nodes.bits() for layer in self.lut_layers()]

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, dtype, device, NaN)."""
        first = next(self.parameters(), None)
        if first is not None:
            check_input(x, first)

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters: {"total", "trainable", "non_trainable"}."""
        total = sum(p.numel() for p in self.parameters())
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return {"total": total, "trainable": trainable, "non_trainable": total - trainable}

    def get_config(self) -> ModelConfig:
        """A copy of the configuration, with the runtime parameters as they are now."""
        return replace(self.config)

    def save_config(self, path: str) -> None:
        """Write the configuration, overrides included, as YAML."""
        self.config.to_yaml(path)

    def save_weights(self, path: str, half: bool = False) -> None:
        """Write parameters, wiring and thresholds.

        half: entries of tables in float16, each on its side of where its bit turns, so that the
        hard network stays as it is. What is learned otherwise, wiring too, is written in full.

        Raises RuntimeError before the layers are built, OSError.
        """
        if not self.lut_layers():
            raise RuntimeError("the model has no weights yet: call fit_encoder() first")
        turns = {
            f"{name}.theta": nodes.turn
            for name, nodes in self.named_modules()
            if half and isinstance(nodes, LUTNodes) and nodes.turn is not None
        }
        weights.write(path, self.config, self.state_dict(), turns)

    def load_weights(self, path: str) -> None:
        """Take parameters, wiring and thresholds of a file; layers are built if need be.

        Raises FileNotFoundError; ValueError naming the file and what does not fit.
        """
        structure, tensors = weights.read(path, self.config)
        self.make_room(structure["input_size"])
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{path} does not fit its model: {error}") from error

    def make_room(self, input_size: int) -> None:
        """Build what has to be there before weights for that input size are loaded."""
        self.config.input_size = input_size

    def save_as_pretrained(self, name: str, folder: str | Path) -> None:
        """Write configuration and weights where `build_model(name, pretrained_dir=folder)` looks.

        They are `<folder>/<model_type>/<name>.yaml` and `.pth`.
        """
        config = replace(self.config, pretrained=True, pretrained_name=name)
        path = config.save_to_pretrained(name, folder)
        self.save_weights(str(path.with_suffix(".pth")))

    def with_fixed_wiring(self) -> Self:
        """A copy whose pins read what they read now, and learn no more: layer_type `fixed`.

        Scores of candidates are gone; its file of weights is small.
        """
        model = copy.deepcopy(self)
        for layer in model.lut_layers():
            index = layer.wiring.indices().to(torch.int32)  # type: ignore[operator]
            layer.wiring = FixedWiring(index.clone())
        model.config = replace(self.config, layer_type="fixed", layer_config={})
        return model

    def copy_shared_layers(self, source: BaseLUTModel) -> list[int]:
        """Take wiring and nodes of every layer that `source` has in the same shape; their numbers.

        Raises TypeError for what is no LUT network.
        """
        if not isinstance(source, BaseLUTModel):
            raise TypeError(f"source must be a BaseLUTModel, got {type(source).__name__}")
        copied = []
        pairs = zip(self.lut_layers(), source.lut_layers(), strict=False)
        for number, (layer, other) in enumerate(pairs):
            mine, theirs = layer.state_dict(), other.state_dict()
            same = type(layer.nodes) is type(other.nodes) and layer.input_size == other.input_size
            if same and {k: v.shape for k, v in mine.items()} == {
                k: v.shape for k, v in theirs.items()
            }:
                layer.load_state_dict(theirs)
                copied.append(number)
        return copied
