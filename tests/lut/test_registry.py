"""Names and what they stand for; one of your own is built like any other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eqprop_lab.lut import REGISTRY, BaseLUTModel, ModelConfig, build_model
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.nodes import ProbabilisticNodes
from eqprop_lab.lut.registry import KINDS, Registry
from eqprop_lab.lut.wiring import FixedWiring
from tests.lut.pieces import config, model


def test_every_kind_has_names() -> None:
    assert all(REGISTRY.names(kind) for kind in KINDS)
    assert REGISTRY.names("node") == sorted(REGISTRY.names("node"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_of_each_kind(kind: str) -> None:
    registry = Registry()
    entry = getattr(registry, f"register_{kind}")("mine")(dict)
    assert entry is dict and registry.get(kind, "mine") is dict
    registry.register(kind, "mine")(dict)  # a module that is loaded twice
    with pytest.raises(ValueError, match="name must be new"):
        registry.register(kind, "mine")(list)
    registry.unregister(kind, "mine")
    with pytest.raises(ValueError, match=f"{kind} must be one of"):
        registry.get(kind, "mine")


def test_what_is_no_entry() -> None:
    with pytest.raises(TypeError, match="name must be"):
        REGISTRY.register_node(3)
    with pytest.raises(TypeError, match="node must be a class or a function"):
        REGISTRY.register_node("x")(3)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="kind must be one of"):
        REGISTRY.names("nodes")
    with pytest.raises(ValueError, match="did you mean 'probabilistic'"):
        REGISTRY.get("node", "probabilistik")


def test_nodes_a_wiring_and_a_model_of_your_own() -> None:
    class AndNodes(ProbabilisticNodes):
        """Begins as a conjunction."""

    class FirstLayer(LUTLayer):
        """Reads the first inputs only."""

        def wire(self, generator: torch.Generator) -> FixedWiring:
            return FixedWiring(torch.zeros(self.nodes.inputs, self.nodes.count, dtype=torch.int32))

    class Constant(BaseLUTModel):
        """Says the same of everything."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), self.config.num_classes)

    def conjunction(nodes: ProbabilisticNodes, generator: torch.Generator) -> None:
        nodes.set_logits(torch.tensor([-1.0] * (nodes.entries - 1) + [1.0]).expand(nodes.count, -1))

    own: dict[str, Any] = {
        "node": AndNodes,
        "layer": FirstLayer,
        "model": Constant,
        "initializer": conjunction,
    }
    for kind, entry in own.items():
        REGISTRY.register(kind, "of_mine")(entry)
    try:
        mine = model(node_type="of_mine", layer_type="of_mine", runtime={"init_fn": "of_mine"})
        assert all(int(table.sum()) == table.shape[0] for table in mine.truth_tables())
        assert set(mine.layers[0].wiring.indices().flatten().tolist()) == {0}
        made = build_model(ModelConfig(**(config().to_dict() | {"model_type": "of_mine"})))
        assert isinstance(made, Constant) and made(torch.zeros(2, 12)).shape == (2, 3)
    finally:
        for kind in own:
            REGISTRY.unregister(kind, "of_mine")
