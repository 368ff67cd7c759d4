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
from eqprop_lab.validation import positive_int, real, shown


def distilled(
    teacher: nn.Module,
    split: Split | Tensor,
    weight: float | None = None,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> Split:
    """The samples of `split` with chances (N, K) for targets.

        t = w softmax(z_teacher / T) + (1 - w) onehot(y)

    teacher: x (B, ...) -> logits (B, K); asked in eval mode, and as it was afterwards. split: with
    classes for targets, or images (N, ...) without any. weight w in [0, 1]: of the teacher's
    answers, the rest is the label's; 0.5 by default, and 1 without labels. temperature T > 0: above
    1 its answers are less certain. Raises TypeError, ValueError naming the argument.
    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531.
    """
    a_module("teacher", teacher)
    labelled = not isinstance(split, Tensor)
    if isinstance(split, Tensor):
        split = Split(split, torch.zeros(len(split), dtype=torch.int64, device=split.device))
    _check_classes(split)
    share = _weight(weight, labelled)
    softness = real("temperature", temperature, above=0.0)
    logits = _answers(teacher, split.x, positive_int("batch_size", batch_size))
    if logits.ndim != 2 or logits.shape[1] <= int(split.y.max()):
        raise ValueError(
            f"teacher must give a logit for each of {int(split.y.max()) + 1} classes, got shape "
            f"{tuple(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("teacher gives NaN or infinite logits")
    labels = nn.functional.one_hot(split.y.long(), logits.shape[1]).to(logits.dtype)
    scaled = logits / softness
    if not bool(torch.isfinite(scaled).all()):
        raise ValueError(f"temperature must be larger: logits / {softness:g} is not finite")
    return Split(split.x, share * scaled.softmax(1) + (1 - share) * labels)


def _check_classes(split: object) -> None:
    """Raise TypeError, ValueError for what has no classes for targets."""
    if not isinstance(split, Split):
        raise TypeError(
            "split must be a Split, such as data.train, or a tensor of images without labels, "
            f"got {type(split).__name__}"
        )
    y = split.y
    if y.ndim != 1 or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"split must have classes for targets, got {y.dtype} {tuple(y.shape)}")
    if not len(y):
        raise ValueError("split must hold at least one sample, got none")
    if int(y.min()) < 0:
        raise ValueError(f"split must have classes from 0 on, got {int(y.min())}")


def _weight(weight: float | None, labelled: bool) -> float:
    """The teacher's share. Raises TypeError, ValueError."""
    if weight is None:
        return 0.5 if labelled else 1.0
    share = real("weight", weight, at_least=0.0, at_most=1.0)
    if not labelled and share < 1:
        raise ValueError(f"weight must be 1 for images without labels, got {shown(weight)}")
    return share


@torch.no_grad()
def _answers(teacher: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    with evaluated(teacher):
        return torch.cat([teacher(part) for part in x.split(batch_size)])
