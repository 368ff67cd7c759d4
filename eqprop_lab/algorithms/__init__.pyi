"""The rules by name and where each lives; `__init__.py` reads it too (see `lazy`)."""

from eqprop_lab.algorithms.bioplausible import (
    BioplausibleModel as BioplausibleModel,
    list_algorithms as list_algorithms,
)
from eqprop_lab.algorithms.registry import register_algorithm as register_algorithm

__all__: list[str]
