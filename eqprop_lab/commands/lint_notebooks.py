"""`python -m eqprop_lab lint-notebooks`, in a checkout: do the notebooks keep to their anatomy?"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from eqprop_lab.commands.arguments import refuse
from eqprop_lab.files import checkout


def main(argv: Sequence[str]) -> int:
    """Hand over to `tools/anatomy` of the checkout this package is part of; 2 where it is none."""
    project = checkout()
    if project is None or not (project / "tools" / "anatomy").is_dir():
        return refuse(
            "lint-notebooks needs the checkout of the project: its rules are in tools/anatomy, "
            "which an installed eqprop_lab does not have"
        )
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    return int(importlib.import_module("tools.anatomy.anatomy").main(argv))
