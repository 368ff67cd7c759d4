"""The networks that come trained, for torch.hub: from a folder, or from the host of the repository.

torch.hub.load(folder, "digits_conv", source="local")    one entry point a network, in eval mode
torch.hub.load(folder, "network", "digits_conv", source="local")    the same by an argument
"""

from __future__ import annotations

from collections.abc import Callable as _Callable

from torch import nn as _nn

from eqprop_lab.deploy.opening import (
    lookup_networks as _lookup_networks,
    open_model as _open_model,
)
from eqprop_lab.experiments.trained import list_trained as _list_trained, trained_info as _info
from eqprop_lab.lut import get_pretrained_model_info as _lookup_info
from eqprop_lab.validation import one_of as _one_of

# by the names they are imported under; torch.hub asks for them before it calls an entry point
dependencies = ["PIL", "numpy", "safetensors", "torch", "tqdm", "yaml"]


def _told(name: str) -> str:
    """What is known of a network, in a sentence."""
    if name in _list_trained():
        about = card = _info(name)
        kind = about["model"]
    else:
        about = _lookup_info(name)
        card, kind = about["metadata"], f"A {about['model_type']} network of look-up tables"
    measured = (f"{key} {value}" for key, value in card.items() if key.startswith("test_"))
    return f"{kind}, trained on {about['dataset']}: {', '.join(measured)}."


def _entry(name: str) -> _Callable[..., _nn.Module]:
    def load(device: str | None = None) -> _nn.Module:
        return _open_model(name, device=device).model

    load.__name__ = load.__qualname__ = name
    load.__doc__ = f"{_told(name)}\n\ndevice: where it goes, None: the CPU. In eval mode."
    return load


_NAMES = [*_list_trained(), *_lookup_networks()]
globals().update({name: _entry(name) for name in _NAMES})


def network(name: str, device: str | None = None) -> _nn.Module:
    """The trained network of a name. Raises ValueError for an unknown one, naming those there are.

    device: where it goes, None: the CPU. In eval mode.
    """
    return _open_model(_one_of("name", name, _NAMES), device=device).model
