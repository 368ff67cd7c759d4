"""Learning rules by name.

@register_algorithm("my_rule")
class MyRule(LocalMLP): ...

BioplausibleModel("my_rule", 64, [32], 10)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from eqprop_lab.models.local_rule import LocalRule
from eqprop_lab.validation import adding, known_keys, one_of

Rule = type[LocalRule]
R = TypeVar("R", bound=Rule)
ALGORITHMS: dict[str, Rule] = {}


def register_algorithm(name: str) -> Callable[[R], R]:
    """Above a class on LocalRule that takes (input_dim, hidden_dims, output_dim, ...).

    Raises: TypeError for a name that is no text or a class that is no rule; ValueError for a name
    that another rule has already.
    """
    return adding(ALGORITHMS, name, "a rule", _is_rule, "a class on LocalRule")


def _is_rule(entry: object) -> bool:
    return isinstance(entry, type) and issubclass(entry, LocalRule)


def algorithm(name: str) -> Rule:
    """The rule of that name. Raises ValueError naming the nearest one there is."""
    return ALGORITHMS[one_of("algorithm", name, sorted(ALGORITHMS))]


def options(rule: Rule) -> set[str]:
    """The arguments a rule takes: its own, and those it hands on to its bases."""
    found: set[str] = set()
    for base in rule.__mro__:
        if "__init__" in vars(base):
            taken = inspect.signature(vars(base)["__init__"]).parameters.values()
            found |= {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            if not any(p.kind is p.VAR_KEYWORD for p in taken):
                break
    return found - {"self"}


def check_options(name: str, given: dict[str, object]) -> None:
    """Raise ValueError for an argument that the rule does not take, naming the nearest."""
    known_keys(f"the options of {name}", given, sorted(options(algorithm(name))))
