"""Which device is meant, whether this machine has it, and what it is called."""

from __future__ import annotations

import torch

from eqprop_lab.quick_tanh import NUMPY, WAY
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


def named(device: torch.device) -> str:
    """A device in words: the name of a GPU, "CPU (AVX2)" by the vectors that torch has, "MPS"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({torch.backends.cpu.get_cpu_capability()})"
    return device.type.upper()


def capability() -> str:
    """What vectors torch and NumPy compute with here: "torch AVX2, NumPy's tanh without AVX512"."""
    numpy_has = "with" if WAY == NUMPY else "without"
    return f"torch {torch.backends.cpu.get_cpu_capability()}, NumPy's tanh {numpy_has} AVX512"
