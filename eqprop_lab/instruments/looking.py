"""Looking inside: what a network sees, what its answer depends on, where its heads look.

    saliency_i   |dz_c / dx_i|
    Grad-CAM     relu( sum_k a_k A^k ),   a_k = mean_(i,j) dz_c / dA^k_ij
    rollout      R = prod_l (mean_h P^(l,h) + I) / 2       rows sum to 1

A network of an equilibrium needs no hooks: its settled state is its feature maps. There dz/dA is
the answer to a push e that is held on a map while the state settles, s = F(s) + e: it goes through
the feedback too. Sources: Simonyan et al. 2014, arXiv:1312.6034 (saliency); Selvaraju et al. 2017,
arXiv:1610.02391 (Grad-CAM); Abnar and Zuidema 2020, arXiv:2005.00928 (rollout).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import relax
from eqprop_lab.models.language.attention import weights, with_sink
from eqprop_lab.models.language.directed import DirectedLM
from eqprop_lab.modules import a_module, evaluated
from eqprop_lab.validation import one_of, shown

STATE = "state {}"  # what a block of an equilibrium is called


@contextmanager
def caught(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, what the named modules gave in the last forward pass (where it is a tensor)."""
    found: dict[str, Tensor] = {}
    modules = dict(model.named_modules())

    def keep(name: str) -> object:
        def hook(module: nn.Module, given: object, out: object) -> None:
            if isinstance(out, Tensor):
                found[name] = out

        return modules[one_of("layer", name, modules)].register_forward_hook(hook)

    handles = [keep(name) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]


def map_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of what has maps (B, C, h, w) for x: modules in their order, or blocks of the state."""
    return [name for name, maps in feature_maps(model, x).items() if maps.ndim == 4]


def wide_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Those of `map_layers` whose maps have more than one pixel."""
    maps = feature_maps(model, x)
    return [name for name, m in maps.items() if m.ndim == 4 and m[0, 0].numel() > 1]


@torch.no_grad()
def feature_maps(
    model: nn.Module, x: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """What the layers make of x, by name: of an equilibrium the blocks of its settled state.

    Args: x (B, ...); layers: names of `model.named_modules()`, or "state 0", "state 1", ...; None:
    all that have maps (B, C, h, w), of an equilibrium all blocks.
    Raises: TypeError, ValueError naming what is not there.
    """
    if isinstance(model, EquilibriumModel):
        blocks = relax(model, x).state
        found = {STATE.format(number): block for number, block in enumerate(blocks)}
        return {one_of("layer", n, found): found[n] for n in (found if layers is None else layers)}
    every = [name for name, _ in a_module("model", model).named_modules() if name]
    wanted = every if layers is None else list(layers)
    with evaluated(model), caught(model, wanted) as found:
        model(x)
    if layers is None:
        return {name: found[name] for name in every if name in found and found[name].ndim == 4}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"layers must give a tensor for x, {shown(missing[0])} does not")
    return {name: found[name] for name in wanted}


def _chosen(logits: Tensor, classes: Tensor | None) -> Tensor:
    """z_c summed over the samples; None: the class that the network says."""
    if classes is None:
        classes = logits.argmax(1)
    if not isinstance(classes, Tensor) or classes.dtype != torch.int64:
        raise TypeError(f"classes must be a tensor of integers (B,) or None, got {shown(classes)}")
    if classes.shape != logits.shape[:1]:
        raise ValueError(f"classes must be one for each of {len(logits)} samples, got {classes}")
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise ValueError(f"classes must lie in 0 to {logits.shape[1] - 1}, got {classes.tolist()}")
    return logits.gather(1, classes[:, None].to(logits.device)).sum()


def saliency(model: nn.Module, x: Tensor, classes: Tensor | None = None) -> Tensor:
    """|dz_c/dx|, of the shape of x; of an equilibrium through its whole relaxation.

    classes: (B,) int64, None: what the network says. Raises: TypeError, ValueError.
    """
    with evaluated(model), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        score = _chosen(model(inputs), classes)
        return torch.autograd.grad(score, inputs)[0].abs()


def grad_cam(
    model: nn.Module, x: Tensor, classes: Tensor | None = None, layer: str | None = None
) -> Tensor:
    """The map (B, h, w) of what speaks for a class in the maps of a layer.

    Args: classes: (B,) int64, None: what the network says. layer: as in `feature_maps`, None: the
    last that has maps with more than one pixel.
    Raises: TypeError, ValueError, also for a model or a layer without maps.
    """
    name = _last_maps(model, x) if layer is None else layer
    with evaluated(model), torch.enable_grad():
        if isinstance(model, EquilibriumModel):
            maps, gradient = _pushed(model, x, name, classes)
        else:
            with caught(model, [name]) as found:
                score = _chosen(model(x), classes)
            if name not in found or found[name].ndim != 4:
                raise ValueError(f"layer must have maps (B, C, h, w), {shown(name)} has none")
            maps = found[name]
            (gradient,) = torch.autograd.grad(score, maps)
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach()


def _last_maps(model: nn.Module, x: Tensor) -> str:
    """The last layer with maps of more than one pixel. Raises ValueError where there is none."""
    wide = wide_layers(model, x)
    if not wide:
        raise ValueError(
            f"model must have a layer with maps of more than one pixel for x of shape "
            f"{tuple(x.shape)}, this {type(model).__name__} has none"
        )
    return wide[-1]


def _pushed(
    model: EquilibriumModel, x: Tensor, layer: str, classes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(the settled block, dz_c/de for a push e that is held on it while the state settles)."""
    state = relax(model, x).state
    names = [STATE.format(number) for number in range(len(state))]
    block = names.index(one_of("layer", layer, names))
    if state[block].ndim != 4:
        raise ValueError(
            f"layer must have maps (B, C, h, w), {layer} is {tuple(state[block].shape)}"
        )
    push = torch.zeros_like(state[block]).requires_grad_()
    with model.frozen_weights():
        drive = tuple(part.detach() for part in model.drive(x))
        moved = state
        for _ in range(model.max_steps):
            for group in model.groups:
                moved = model.update(group, moved, drive)
                if block in group:
                    moved = tuple(s + push if i == block else s for i, s in enumerate(moved))
        score = _chosen(model.readout(moved), classes)
    return state[block], torch.autograd.grad(score, push)[0]


@torch.no_grad()
def attention_at(model: DirectedLM, state: Sequence[Tensor], e: Tensor) -> Tensor:
    """p (layers, B, H, T, 1 + T) of texts, embedded (B, T, d), at a state; the sink first."""
    tokens, rows = e.shape[1], e.flatten(0, 1)
    queries, held, found = model.own_drive(rows, tokens)[1], model.attention_weights(), []
    for layer, q in enumerate(queries):
        keys = model.keys_and_values(layer, model.seen(layer, rows, state), tokens, held)[0]
        table = held[f"table{layer}"][:, :tokens, : tokens + 1]
        found.append(weights(q, with_sink(keys), table))
    return torch.stack(found)


def attention_maps(model: DirectedLM, x: Tensor) -> Tensor:
    """P (layers, B, H, T, T) at the settled state of tokens x (B, T); rows sum to 1.

    What goes to the sink, whose value is zero, is counted as staying where it is.
    Raises TypeError for a model without attention in its loop.
    """
    if not isinstance(model, DirectedLM):
        raise TypeError(
            f"model must be one whose loop runs through attention (TransformerEqProp, "
            f"RecurrentEqPropLM), got {type(model).__name__}"
        )
    with torch.no_grad():
        found = attention_at(model, relax(model, x).state, model.embedding(x))
    return found[..., 1:] + torch.diag_embed(found[..., 0])


def attention_rollout(maps: Sequence[Tensor] | Tensor) -> Tensor:
    """R (B, T, T): how much of token j is in what stands at i after all layers.

    Args: maps: one (B, H, T, T) a layer, the first first, rows that sum to 1 (`attention_maps`).
    Raises: TypeError, ValueError naming the layer.
    """
    if not len(maps):
        raise ValueError("maps must hold one tensor a layer, got none")
    rolled: Tensor | None = None
    for layer, heads in enumerate(maps):
        if not isinstance(heads, Tensor) or heads.ndim != 4 or heads.shape[-1] != heads.shape[-2]:
            got = tuple(heads.shape) if isinstance(heads, Tensor) else type(heads).__name__
            raise ValueError(f"maps[{layer}] must have the shape (B, H, T, T), got {got}")
        sums = heads.sum(-1)
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4) or bool((heads < 0).any()):
            raise ValueError(f"maps[{layer}] must have rows of shares that sum to 1")
        one = torch.eye(heads.shape[-1], device=heads.device, dtype=heads.dtype)
        mixed = (heads.mean(1) + one) / 2
        rolled = mixed if rolled is None else mixed @ rolled
    assert rolled is not None
    return rolled
