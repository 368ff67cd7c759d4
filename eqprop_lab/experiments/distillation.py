"""A student is taught the answers of a teacher, beside the labels or instead of them.

    t = w softmax(z_teacher / T) + (1 - w) onehot(y),    C = -sum_k t_k log softmax(z_student)_k

The teacher is asked once; what comes back is a set of samples like any other, and the student
trains on it under the ordinary trainer, by whatever rule. Hinton, Vinyals, Dean (2015),
arXiv:1503.02531; the student's own temperature is 1 here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.datasets.splits import Split
from eqprop_lab.modules import a_module, evaluated
from eqprop_lab.validation import positive_int, real


def distilled(
    teacher: nn.Module,
    split: Split,
    weight: float = 0.5,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> Split:
    """The samples of `split` with chances (N, K) for targets.

    teacher: x (B, ...) -> logits (B, K); asked in eval mode, and as it was afterwards. weight w in
    [0, 1]: of its answers, the rest is the label's. temperature T > 0: above 1 its answers are less
    certain. Raises TypeError, ValueError naming the argument.
    """
    a_module("teacher", teacher)
    if not isinstance(split, Split):
        raise TypeError(f"split must be a Split, such as data.train, got {type(split).__name__}")
    if split.y.ndim != 1 or split.y.is_floating_point():
        raise ValueError(f"split must have classes for targets, got {tuple(split.y.shape)}")
    share = real("weight", weight, at_least=0.0, at_most=1.0)
    softness = real("temperature", temperature, above=0.0)
    logits = _answers(teacher, split.x, positive_int("batch_size", batch_size))
    if logits.ndim != 2 or logits.shape[1] <= int(split.y.max()):
        raise ValueError(
            f"teacher must give a logit for each of {int(split.y.max()) + 1} classes, got shape "
            f"{tuple(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("teacher gives NaN or infinite logits")
    labels = nn.functional.one_hot(split.y, logits.shape[1]).to(logits.dtype)
    return Split(split.x, share * (logits / softness).softmax(1) + (1 - share) * labels)


@torch.no_grad()
def _answers(teacher: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    with evaluated(teacher):
        return torch.cat([teacher(part) for part in x.split(batch_size)])
