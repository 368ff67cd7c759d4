"""`python -m eqprop_lab COMMAND`: a table of commands, each a file with `main(argv) -> exit code`.

A command called NAME is `commands/NAME.py` (with _ for -). `--import MODULE` before it imports a
module of the user's, which registers models, rules, estimators or data sets for the command.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from eqprop_lab.tables import text_table
from eqprop_lab.version import __version__

COMMANDS = {
    "run": "run the notebooks as regression tests, with a report",
    "lint-notebooks": "check that the notebooks keep to their anatomy (in a checkout)",
    "train": "train what a YAML file or a recipe describes",
    "sweep": "train over a space of settings, in several shells at once",
    "evaluate": "loss and accuracy of a checkpoint",
    "serve": "answers over HTTP: a network that settles, as a service",
    "course": "editions for students and lecturers, and grading (in a checkout)",
    "compare": "two stored runs: settings that differ, curves overlaid",
    "rerun": "train a stored run again: does the result reproduce?",
    "new": "a model, rule, estimator, data set, explorer, notebook of your own to begin with",
    "verify": "does the package compute what it promises? twelve checks",
    "dashboard": "train and watch in the browser, on this machine only",
    "speed": "what is quickest on this machine: torch, compiled, kernel?",
    "doctor": "is this machine fit for it? versions, devices, data, browser",
    "gpu-check": "what only a GPU can show, stored as JSON",
}


def usage() -> str:
    """The list of commands."""
    rows = [(f"  {name}", text) for name, text in COMMANDS.items()]
    head = (
        "usage: python -m eqprop_lab [--import MODULE ...] COMMAND [options]\n"
        "       python -m eqprop_lab --version\n\n"
        "commands (each takes --help):"
    )
    return "\n".join([head, *text_table(rows)])


def take_imports(argv: Sequence[str]) -> list[str]:
    """What is left of argv when every `--import MODULE` at its beginning is imported.

    Raises ValueError, ImportError; an error inside of the module is left as it is.
    """
    rest = list(argv)
    while rest[:1] == ["--import"]:
        if len(rest) < 2 or not all(part.isidentifier() for part in rest[1].split(".")):
            got = repr(rest[1]) if len(rest) > 1 else "nothing"
            raise ValueError(f"--import takes the name of a module, like my_model; got {got}")
        importlib.import_module(rest[1])
        del rest[:2]
    return rest


def main(argv: Sequence[str]) -> int:
    """Hand over to the command named first; 2 for an unknown one."""
    try:
        argv = take_imports(argv)
    except (ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"eqprop_lab {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"error: unknown command {argv[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"eqprop_lab.commands.{argv[0].replace('-', '_')}")
    return int(module.main(list(argv[1:])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
