"""Is a network as often right as it says? Calibration, and the temperature that mends it.

    NLL = -mean_n log p_n[y_n],      ECE = sum_b (N_b / N) |right_b - claimed_b|
    T*  = argmin_T -mean_n log softmax(z_n / T)[y_n]

What a network claims for a sample is its largest probability; bin b holds the N_b samples with
claims in ((b - 1) / bins, b / bins], right_b is the share of them that it gets right, claimed_b
their mean claim. The ECE of few samples is too large: every bin has its own chance. Sources: Naeini
et al. 2015, doi:10.1609/aaai.v29i1.9602 (ECE); Guo et al. 2017, arXiv:1706.04599 (networks,
temperature).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop_lab.validation import positive_int

COLDEST, HOTTEST = 1e-3, 1e3  # where a temperature is looked for, by the spread of the logits
SMALLEST = 1e-100  # a spread that is one
ROWS = 1e-3  # how far the sum of a row of probabilities may be from one


@dataclass(frozen=True)
class Calibration:
    """nll, ece, accuracy and confidence (the mean claim) of all samples; right, claimed (bins,):
    of each bin, nan where it is empty; count (bins,): its samples.
    """

    nll: float
    ece: float
    accuracy: float
    confidence: float
    right: Tensor
    claimed: Tensor
    count: Tensor


def calibration(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Calibration:
    """NLL, ECE and the reliability diagram of answers; formulas above.

    probabilities (N, K): rows that sum to one, as `Ensemble.predict` or a softmax gives them.
    labels (N,): classes. bins: of equal width, between 0 and 1.
    Raises: TypeError, ValueError naming the argument.
    """
    p, y = _checked("probabilities", probabilities, labels)
    if bool((p < 0).any()) or float((p.sum(1) - 1).abs().max()) > ROWS:
        raise ValueError(
            "probabilities must be >= 0 and sum to one in each row, got sums from "
            f"{float(p.sum(1).min()):.4g} to {float(p.sum(1).max()):.4g}; of logits take softmax(1)"
        )
    number = positive_int("bins", bins)
    claim, said = p.max(1)
    hit = (said == y).to(p.dtype)
    place = (claim * number).ceil().long().clamp(1, number) - 1
    count = torch.bincount(place, minlength=number)
    right = torch.bincount(place, hit, minlength=number) / count
    claimed = torch.bincount(place, claim, minlength=number) / count
    gaps = (right - claimed).abs().nan_to_num(0.0)
    chosen = p.gather(1, y[:, None]).clamp_min(torch.finfo(p.dtype).tiny)
    return Calibration(
        nll=float(-chosen.log().mean()),
        ece=float((gaps * count).sum() / len(y)),
        accuracy=float(hit.mean()),
        confidence=float(claim.mean()),
        right=right,
        claimed=claimed,
        count=count,
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """T > 0 with the smallest NLL of softmax(z / T): of held-out samples, not of training ones.

    The NLL is convex in 1 / T; its slope, mean_n (sum_k p_nk z_nk - z_n[y_n]), is halved in on.
    logits (N, K), or log probabilities such as those of an `Ensemble`; labels (N,): classes.
    Raises: TypeError, ValueError naming the argument, also where no temperature is best: every
    sample right (colder is ever better), or answers that say nothing of the labels.
    """
    z, y = _checked("logits", logits, labels)
    z = z - z.amax(1, keepdim=True)  # the same answers; T is as large as differences are
    spreads = -z.amin(1)
    spreads = spreads[spreads > SMALLEST]
    colder, hotter = COLDEST, HOTTEST
    if len(spreads):
        colder, hotter = COLDEST * float(spreads.min()), HOTTEST * float(spreads.max())
    own = z.gather(1, y[:, None])[:, 0]

    def slope(inverse: float) -> float:
        return float((((inverse * z).softmax(1) * z).sum(1) - own).mean())

    if slope(1 / hotter) >= 0 or slope(1 / colder) <= 0:
        cause = "are no better than chance" if slope(1 / hotter) >= 0 else "are all right"
        raise ValueError(f"logits must have a best temperature; for these labels they {cause}")
    low, high = -math.log(hotter), -math.log(colder)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def _checked(name: str, answers: object, labels: object) -> tuple[Tensor, Tensor]:
    """(answers (N, K) in float64, labels (N,)), both on the CPU. Raises TypeError, ValueError."""
    if not isinstance(answers, Tensor) or not answers.is_floating_point():
        raise TypeError(f"{name} must be a tensor of floats, got {_kind(answers)}")
    if answers.ndim != 2 or not answers.numel():
        raise ValueError(f"{name} must have the shape (N, K), got {tuple(answers.shape)}")
    if not bool(torch.isfinite(answers).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite ones")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be a tensor of class indices, got {_kind(labels)}")
    if labels.shape != answers.shape[:1]:
        raise ValueError(
            f"labels must have the shape ({len(answers)},), one a row of {name}, "
            f"got {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= answers.shape[1]:
        raise ValueError(f"labels must be from 0 to {answers.shape[1] - 1}, got {low} to {high}")
    return answers.detach().cpu().double(), labels.cpu().long()


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
