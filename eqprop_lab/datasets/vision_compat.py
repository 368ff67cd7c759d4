"""Import torchvision also where its compiled library cannot be loaded.

The PyPI wheel of torchvision is linked against a CUDA torch; beside a CPU-only torch its library
does not load and the import fails because the operators ``torchvision::nms`` and
``torchvision::qnms`` are unknown. Data sets, transforms and models never call them, so declaring
them (without an implementation) is enough. Where the compiled library is there, nothing is touched.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

# Kept alive for the life of the process: torch drops the declarations together with the Library
# object.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The torchvision module, declared operators added only if its own import failed for want of
    them.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")


def shim_in_use() -> bool:
    """Whether the operators were declared here (True) or come from torchvision's own library."""
    return bool(_declared)
