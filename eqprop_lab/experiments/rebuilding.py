"""What builds a network anew: its arguments, told from the model, and the weights they ask for.

    arguments(model) -> params      type(model)(**params) has the shapes and settings of `model`
    misfit(params, tensors)         why these weights are not those of `params`, nothing being built

A file of weights may say anything: what it asks to be built is compared with what it brings, so
that no memory is taken for weights that are not there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eqprop_lab.algorithms.bioplausible import BioplausibleModel
from eqprop_lab.models.adaptive_feedback import AdaptiveFeedbackMLP
from eqprop_lab.models.backprop import geometry
from eqprop_lab.models.conv import ConvEqProp, conv_maps
from eqprop_lab.models.equilibrium_alignment import EquilibriumAlignment
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM, Block
from eqprop_lab.models.language.transformer_eqprop import TransformerEqProp
from eqprop_lab.models.vision.resnet import ResNetCifar
from eqprop_lab.validation import positive_int

Params = Mapping[str, Any]
Needs = Iterator[tuple[str, tuple[int, ...]]]
ACCURACIES = ("validation_accuracy", "test_accuracy")
LOSSES = (
    "validation_loss",
    "test_loss",
    "validation_bits_per_character",
    "test_bits_per_character",
)
RAW = "parametrizations.weight.original"  # of a bounded weight


@dataclass(frozen=True)
class Kind:
    """A class of networks that can be stored.

    build: the class. arguments: those of a model, but for its seed. misfit: see the module; raises
    TypeError, ValueError, KeyError for params that are none. figures: what is measured of such a
    network. reads: its tokens have a vocabulary.
    """

    build: Callable[..., nn.Module]
    arguments: Callable[[Any], dict[str, Any]]
    misfit: Callable[[Params, Mapping[str, Tensor]], str | None]
    figures: tuple[str, ...] = ACCURACIES
    reads: bool = False


def _conv_arguments(model: ConvEqProp) -> dict[str, Any]:
    sizes = geometry(model)
    rest = [key for key in inspect.signature(ConvEqProp).parameters if key not in sizes]
    return sizes | {key: getattr(model, key) for key in rest if key != "seed"}


def _conv_misfit(params: Params, tensors: Mapping[str, Tensor]) -> str | None:
    sizes = inspect.signature(ConvEqProp).bind(**params).arguments
    names = ("input_channels", "hidden_channels", "image_size", "kernel_size", "strides")
    maps = conv_maps(**{name: sizes[name] for name in names if name in sizes})
    layers = sum(math.prod(linear.weight_shape) + math.prod(linear.bias_shape) for linear in maps)
    last = math.prod(maps[-1].out_shape) + 1
    needed = layers + positive_int("output_dim", sizes["output_dim"]) * last
    there = sum(tensor.numel() for tensor in tensors.values())
    if needed <= there:
        return None
    return f"have {there} values, those of its params {dict(params)} would have {needed}"


def _kind(
    model: type[nn.Module],
    needs: Callable[[Params], Needs],
    told: Callable[[Any], dict[str, Any]] = lambda net: {},
    reads: bool = True,
) -> Kind:
    """needs: the large weights of a model of these params, to which the others are in proportion;
    told: the arguments that no attribute of the same name holds; reads: it has a vocabulary.
    """

    def arguments(net: Any) -> dict[str, Any]:
        known = told(net)
        rest = [key for key in inspect.signature(model).parameters if key not in known]
        return known | {key: getattr(net, key) for key in rest if key != "seed"}

    return Kind(model, arguments, _misfit(needs), LOSSES if reads else ACCURACIES, reads)


def _misfit(
    needs: Callable[[Params], Needs],
) -> Callable[[Params, Mapping[str, Tensor]], str | None]:
    def misfit(params: Params, tensors: Mapping[str, Tensor]) -> str | None:
        for name, shape in needs(params):
            there = tuple(tensors[name].shape) if name in tensors else None
            if there != shape:
                return f"are not those of its params {dict(params)}: {name} is {there}, not {shape}"
        return None

    return misfit


def _embedded(p: Params) -> Needs:
    """The embeddings that all but LoopedMLPForLM have."""
    yield "embedding.token.weight", (p["vocab_size"], p["hidden_dim"])
    yield "embedding.position.weight", (p["max_seq_len"], p["hidden_dim"])


def _hybrid(p: Params) -> Needs:
    d, m = p["hidden_dim"], p["inner_dim"]
    yield from _embedded(p)
    yield f"W_rec.{RAW}", (m, m)
    yield "W_in.weight", (m, d)
    yield "W_out.weight", (p["vocab_size"], m)
    for number in range(p["num_layers"] - 1):
        yield f"blocks.{number}.up.weight", (4 * d, d)


def _looped(p: Params) -> Needs:
    yield "window.embedding.weight", (p["vocab_size"] + 1, p["embed_dim"])
    yield "W_in.weight", (p["hidden_dim"], p["window"] * p["embed_dim"])
    yield f"W_rec.{RAW}", (p["hidden_dim"], p["hidden_dim"])
    yield "W_out.weight", (p["vocab_size"], p["hidden_dim"])


def _full(p: Params) -> Needs:
    yield from _full_but_readout(p)
    yield "W_out.weight", (p["vocab_size"], p["num_layers"] * p["hidden_dim"])


def _classifier(p: Params) -> Needs:
    yield from _full_but_readout(p)
    yield "W_out.weight", (p["num_classes"], p["num_layers"] * p["hidden_dim"])


def _full_but_readout(p: Params) -> Needs:
    d = p["hidden_dim"]
    yield from _embedded(p)
    for number in range(p["num_layers"]):
        yield f"attention.{number}.W_q.weight", (d, d)
        yield f"xi.{number}.{RAW}", (p["inner_dim"], d)


def _recurrent(p: Params) -> Needs:
    d = p["hidden_dim"]
    yield from _embedded(p)
    yield "attention.0.W_q.weight", (d, d)
    yield f"W_1.{RAW}", (p["inner_dim"], d)


def _attention_only(p: Params) -> Needs:
    d = p["hidden_dim"]
    yield from _embedded(p)
    for number in range(p["num_layers"]):
        yield f"layers.{number}.W_o.weight", (d, d)
        yield f"layers.{number}.up.weight", (p["inner_dim"], d)


def _transformer(p: Params) -> Needs:
    d = p["hidden_dim"]
    yield from _embedded(p)
    for number in range(p["num_layers"]):
        yield f"blocks.{number}.attention.qkv.weight", (3 * d, d)
        yield f"blocks.{number}.up.weight", (p["inner_dim"], d)


def _window(p: Params) -> Needs:
    m = p["hidden_dim"]
    yield "window.embedding.weight", (p["vocab_size"] + 1, p["embed_dim"])
    yield "layers.0.weight", (m, p["window"] * p["embed_dim"])
    yield "layers.2.weight", (m, m)


def _hybrid_told(net: HybridEqPropLM) -> dict[str, Any]:
    return {
        "hidden_dim": net.input_dim,
        "inner_dim": net.hidden_dim,
        "num_layers": len(net.blocks) + 1,
    }


def _window_told(net: LoopedMLPForLM | BackpropWindowLM) -> dict[str, Any]:
    length = net.window.length
    return {"window": length, "embed_dim": net.window.width // length}


def _attention_only_told(net: EqPropAttentionOnlyLM) -> dict[str, Any]:
    first = next(net._layers())
    return {
        "num_layers": len(net.layers),
        "inner_dim": first.up.out_features,
        "max_steps": first.settle.model.max_steps,
    }


def _transformer_told(net: BackpropTransformerLM) -> dict[str, Any]:
    first = net.blocks[0]
    assert isinstance(first, Block)
    return {"num_layers": len(net.blocks), "inner_dim": first.up.out_features}


CLASSIFIER = " with num_classes"  # behind the name of a class of KINDS that reads without it


def kind_name(model: nn.Module) -> str:
    """Under which name of KINDS a network would be stored, whether there is one or not."""
    name, sorts = type(model).__name__, getattr(model, "num_classes", None) is not None
    return name + CLASSIFIER if sorts and name + CLASSIFIER in KINDS else name


def _widths(p: Params) -> list[int]:
    return [p["input_dim"], *p["hidden_dims"], p["output_dim"]]


def _layered(p: Params, prefix: str = "") -> Needs:
    for number, (n, m) in enumerate(zip(_widths(p), _widths(p)[1:], strict=False)):
        bounded = number > 0 and p.get("use_spectral_norm", False)
        yield f"{prefix}layers.{number}.{RAW if bounded else 'weight'}", (m, n)


def _aligned(p: Params, prefix: str = "") -> Needs:
    h = p["hidden_dim"]
    yield f"{prefix}W_in.weight", (h, p["input_dim"])
    yield f"{prefix}W_rec.{RAW}", (h, h)
    yield f"{prefix}W_out.weight", (p["output_dim"], h)


def _ruled(p: Params) -> Needs:
    """Of any learning rule: what is made besides is in proportion."""
    if p["algorithm"] == "eq_align":
        (_, hidden, _) = _widths(p)
        yield from _aligned({**p, "hidden_dim": hidden}, "rule.")
    else:
        yield from _layered(p, "rule.")


def _ruled_arguments(model: BioplausibleModel) -> dict[str, Any]:
    names = ("algorithm", "input_dim", "hidden_dims", "output_dim")
    return {name: getattr(model, name) for name in names} | model.options


def _resnet(p: Params) -> Needs:
    """Every block: each is built in turn, and the first that is not there ends it."""
    width = p["width"]
    yield "features.0.weight", (width, p["in_channels"], 3, 3)
    yield "head.weight", (p["num_classes"], 4 * width)
    blocks = (p["depth"] - 2) // 6
    for number in range(3 * blocks):
        maps = width * 2 ** (number // blocks)
        yield f"features.{number + 3}.body.3.weight", (maps, maps, 3, 3)


# By the name of the class, which a file gives: nothing else is ever built.
KINDS: dict[str, Kind] = {
    "ConvEqProp": Kind(ConvEqProp, _conv_arguments, _conv_misfit),
    "HybridEqPropLM": _kind(HybridEqPropLM, _hybrid, _hybrid_told),
    "LoopedMLPForLM": _kind(LoopedMLPForLM, _looped, _window_told),
    "FullEqPropLM": _kind(FullEqPropLM, _full),
    "RecurrentEqPropLM": _kind(RecurrentEqPropLM, _recurrent),
    "EqPropAttentionOnlyLM": _kind(EqPropAttentionOnlyLM, _attention_only, _attention_only_told),
    "TransformerEqProp": _kind(TransformerEqProp, _full),
    f"TransformerEqProp{CLASSIFIER}": _kind(TransformerEqProp, _classifier, reads=False),
    "BioplausibleModel": Kind(BioplausibleModel, _ruled_arguments, _misfit(_ruled)),
    "AdaptiveFeedbackMLP": _kind(AdaptiveFeedbackMLP, _layered, reads=False),
    "EquilibriumAlignment": _kind(EquilibriumAlignment, _aligned, reads=False),
    "ResNetCifar": _kind(ResNetCifar, _resnet, reads=False),
    "BackpropTransformerLM": _kind(BackpropTransformerLM, _transformer, _transformer_told),
    "BackpropWindowLM": _kind(BackpropWindowLM, _window, _window_told),
}
