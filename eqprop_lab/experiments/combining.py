"""Networks put to further use: an ensemble that answers together, a network with another head.

    p(x) = mean_m softmax z_m(x),      spread = 1 - sum_c p_c^2  less the mean of the members' own

The spread is what the members disagree by: zero where all say the same with the same certainty.
Sources: Lakshminarayanan et al. 2017, arXiv:1612.01474 (ensembles); Yosinski et al. 2014,
arXiv:1411.1792 (transfer).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.modules import a_module, evaluated
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, shown, switch

HEADS = ("head", "fc", "classifier")


class Ensemble(nn.Module):
    """Members that answer one after the other; their probabilities are averaged.

        p(x) = mean_m softmax z_m(x)

    Args: models: modules (x -> logits (B, K), or (B, T, K) of tokens), one or more.
    Raises: TypeError, ValueError naming the argument.
    Source: Lakshminarayanan et al. 2017, arXiv:1612.01474.
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        # a Sequential would give its layers for members
        if isinstance(models, nn.Sequential) or not isinstance(models, Iterable):
            raise TypeError(f"models must be a list of networks, got {type(models).__name__}")
        members = list(models)
        if not members:
            raise ValueError("models must hold at least one network, got none")
        for number, model in enumerate(members):
            if not isinstance(model, nn.Module):
                raise TypeError(f"models[{number}] must be a torch.nn.Module, got {shown(model)}")
        self.members = nn.ModuleList(members)

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(probabilities (B, K), spread (B,)), of tokens (B, T, K) and (B, T); members in eval
        mode. Raises ValueError for members with different classes, logits of other shapes, or
        logits that give no probabilities: NaN, or infinite ones.
        """
        with evaluated(self):
            each = [member(x) for member in self.members]
        told = [tuple(logits.shape) for logits in each]
        if len(set(told)) > 1:
            raise ValueError(f"models must give logits of one shape, got {told}")
        if each[0].ndim not in (2, 3):
            raise ValueError(
                f"models must give logits (B, K), or (B, T, K) of tokens, got {told[0]}"
            )
        # in 16 bits small probabilities are zero, and their logarithms infinite
        kind = reduce(torch.promote_types, (z.dtype for z in each), torch.float32)
        stacked = torch.stack([z.to(kind) for z in each]).softmax(-1)
        mean = stacked.mean(0)
        # an export traces symbols, of which nothing can be asked
        if not torch.compiler.is_exporting() and bool(mean.isnan().any()):
            raise ValueError(_without_answers(stacked))
        spread = stacked.square().sum(-1).mean(0) - mean.square().sum(-1)
        return mean, spread.clamp_min(0)

    def forward(self, x: Tensor) -> Tensor:
        """log p, shaped as the members' logits: an evaluation takes it for logits."""
        return self.predict(x)[0].clamp_min(torch.finfo(torch.float32).tiny).log()


def _without_answers(stacked: Tensor) -> str:
    """Which of the members (M, B, ...) say NaN, and for how many samples; from 0, as in a list."""
    counts = stacked.flatten(2).isnan().any(2).sum(1).tolist()
    told = [f"models[{i}] (for {n} of {stacked.shape[1]})" for i, n in enumerate(counts) if n]
    return (
        "models must give each sample logits that make probabilities, got NaN or infinite ones "
        f"from {', '.join(told)}: look at their weights, and at the samples"
    )


def transfer(
    model: nn.Module,
    num_classes: int,
    freeze: str = "all",
    seed: int | None = None,
    keep_statistics: bool = False,
) -> nn.Module:
    """A copy for other classes: its head new, the rest as it was, frozen or not.

    Args: model: one with `reset_classifier(num_classes)`, as those of `models.vision` and timm, or
        whose last module is a Linear called head, fc or classifier.
        freeze: "all" but the head (a probe), "none" (fine-tuning), or the beginning of the names of
        the parameters that are not trained (of a module: all of its own); the others are trained,
        also those that an earlier transfer froze. What is frozen keeps its batch statistics too, in
        training mode as well. seed: of the new head. keep_statistics: what is trained keeps them
        too: a batch of a few images has poor ones.
    Raises: TypeError, ValueError naming the argument.
    Source: Yosinski et al. 2014, arXiv:1411.1792.
    """
    a_module("model", model)
    classes = positive_int("num_classes", num_classes)
    everywhere = switch("keep_statistics", keep_statistics)
    if not isinstance(freeze, str) or not freeze:
        raise TypeError(f'freeze must be "all", "none" or a prefix, got {shown(freeze)}')
    other = copy.deepcopy(model)
    _thaw(other)
    head = _new_head(other, classes, seed)
    names = [n for n, _ in other.named_parameters() if not n.startswith(f"{head}.")]
    # a whole name is no beginning of others: features.1 is not features.10
    begin = f"{freeze}." if freeze in {*names, *(n for n, _ in other.named_modules())} else freeze
    still = names if freeze == "all" else [n for n in names if f"{n}.".startswith(begin)]
    if freeze == "none":
        still = []
    elif not still:
        raise ValueError(
            f"freeze must begin the name of a parameter, {shown(freeze)} begins none of "
            f"{', '.join(names[:4])}, ..."
        )
    for name in still:
        other.get_parameter(name).requires_grad_(False)
    for name, module in other.named_modules():
        own = [p.requires_grad for p in module.parameters(recurse=False)]
        whole = freeze == "all" and name != head or f"{name}.".startswith(begin)
        frozen = not any(own) if own else whole and freeze != "none"
        kept = frozen or (everywhere and getattr(module, "track_running_stats", False))
        if kept and any(True for _ in module.buffers(recurse=False)):
            module.eval()
            module.__dict__["train"] = partial(_stay, module)
    return other


def _new_head(model: nn.Module, classes: int, seed: int | None) -> str:
    """Give the model its new head; the name it has."""
    name = next((n for n in HEADS if isinstance(getattr(model, n, None), nn.Linear)), None)
    reset: Any = getattr(model, "reset_classifier", None)
    if name is None:
        raise TypeError(
            f"model must have a Linear called {', '.join(HEADS)} to be replaced, "
            f"{type(model).__name__} has none"
        )
    with seeded(seed):
        if callable(reset):
            reset(classes)
        else:
            old: Any = getattr(model, name)
            new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
            setattr(model, name, new.to(old.weight.device, old.weight.dtype))
    return name


def _thaw(model: nn.Module) -> None:
    """Undo what `transfer` has frozen."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    for module in model.modules():
        stays = module.__dict__.get("train")
        if isinstance(stays, partial) and stays.func is _stay:
            del module.__dict__["train"]
            module.training = model.training


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """A frozen batch norm answers with the statistics it has, whatever mode the network is in."""
    return module
