"""`python -m eqprop_lab COMMAND`: a table of commands, each a module with `main(argv) -> exit
code`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("eqprop_lab.commands.run", "run the notebooks as regression tests, with a report"),
    "lint-notebooks": (
        "eqprop_lab.commands.lint_notebooks",
        "check that the notebooks keep to their anatomy",
    ),
    "train": ("eqprop_lab.commands.train", "train what a YAML file or a recipe describes"),
    "evaluate": ("eqprop_lab.commands.evaluate", "loss and accuracy of a checkpoint"),
    "compare": (
        "eqprop_lab.commands.runs",
        "two stored runs: settings that differ, curves overlaid",
    ),
    "rerun": ("eqprop_lab.commands.runs", "train a stored run again: does the result reproduce?"),
    "verify": ("eqprop_lab.commands.verify", "six checks that fail when what they name is broken"),
    "gpu-check": ("eqprop_lab.commands.gpu_check", "what only a GPU can show, stored as JSON"),
    "doctor": (
        "eqprop_lab.commands.doctor",
        "check this environment: versions, devices, data, browser",
    ),
}


def usage() -> str:
    """The list of commands."""
    rows = "\n".join(f"  {name:<16}{text}" for name, (_, text) in COMMANDS.items())
    return f"usage: python -m eqprop_lab COMMAND [options]\n\ncommands (each takes --help):\n{rows}"


def main(argv: Sequence[str]) -> int:
    """Hand over to the command named first; 2 for an unknown one."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"error: unknown command {argv[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[argv[0]][0])
    # A module that serves several commands is told which one was named.
    own = 0 if argv[0] in getattr(module, "COMMANDS", ()) else 1
    return int(module.main(list(argv[own:])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
