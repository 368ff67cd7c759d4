"""What every exported text says of itself."""

from __future__ import annotations

import hashlib
import re

from eqprop_lab.lut.netlist import Netlist
from eqprop_lab.validation import shown
from eqprop_lab.version import __version__

WORDS = {"lut", "module", "wire", "input", "output", "assign", "int", "char", "main", "static"}


def a_name(name: object) -> str:
    """A name that both languages take. Raises ValueError."""
    if (
        not isinstance(name, str)
        or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name)
        or name in WORDS
    ):
        raise ValueError(
            f"name must be lower-case letters, digits and _, no word of the language, "
            f"got {shown(name)}"
        )
    return name


def fingerprint(netlist: Netlist) -> str:
    """The same for the same network, whatever language it is written in."""
    parts = [(c.feature, c.threshold.hex()) for c in netlist.comparators]
    tables = [(t.pins, t.entries) for t in netlist.tables]
    text = repr((netlist.features, parts, tables, netlist.outputs, netlist.offsets))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def head(netlist: Netlist) -> list[str]:
    """Lines of a comment."""
    return [
        f"{netlist.features} features, {len(netlist.comparators)} comparators, "
        f"{len(netlist.tables)} tables of {netlist.pins} pins, {len(netlist.outputs)} classes",
        f"fingerprint {fingerprint(netlist)}, written by eqprop_lab {__version__}",
    ]
