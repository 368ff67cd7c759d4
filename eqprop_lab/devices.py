"""Which device is meant, and whether this machine has it: for data sets and trainers alike."""

from __future__ import annotations

import torch

from eqprop_lab.validation import shown


def get_optimal_backend() -> str:
    """ "cuda", "mps" or "cpu": the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or for None the best there is.

    Raises: TypeError; ValueError for a device this machine has not (naming those it has).
    """
    if device is None:
        return torch.device(get_optimal_backend())
    if not isinstance(device, str | torch.device):
        raise TypeError(
            f"device must name a torch device such as 'cpu' or 'cuda:0', got {shown(device)}"
        )
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must name a torch device such as 'cpu' or 'cuda:0', got {shown(device)}"
        ) from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "meta": 1,
    }
    if (chosen.index or 0) >= counts.get(chosen.type, 0):
        present = ", ".join(
            f"{name} ({count})" for name, count in counts.items() if count and name != "meta"
        )
        raise ValueError(
            f"device must be on this machine, which has {present}; got {str(device)!r} "
            "(on the command line: --device)"
        )
    return chosen
