"""Keep the package small enough to read: `python tools/lint_size.py [folder of the checkout]`.

Prints the lines of the package and of its core; exits 1 when a file or the core is over its limit.
A file is counted whole. The core is counted in lines of code, without docstrings, comments and
blank lines: an estimator more costs what it does, not what it explains.
"""

from __future__ import annotations

import io
import sys
import tokenize
from pathlib import Path

FILE_LIMIT = 400
CORE_LIMIT = 1800
# What a reader needs to understand all of the physics and its training, relative to the package.
CORE = ("equilibrium/", "models/looped_mlp.py", "training/trainer.py")
# Instruments that look at the core from outside; nothing in it needs them.
INSTRUMENTS = tuple(f"equilibrium/{name}.py" for name in ("block", "norms"))


def count_lines(package: Path) -> dict[str, int]:
    """Lines of every Python file of the package, by path relative to it."""
    files = sorted(package.rglob("*.py"))
    return {
        f.relative_to(package).as_posix(): len(f.read_text(encoding="utf-8").splitlines())
        for f in files
    }


def code_lines(source: str) -> int:
    """Lines that hold code: no blank line, no comment, no string that stands alone (a docstring)."""
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    found: set[int] = set()
    alone = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent and not (alone and token.type == tokenize.STRING):
            found.update(range(token.start[0], token.end[0] + 1))
        alone = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT) or (
            alone and token.type in silent
        )
    return len(found)


def core_lines(package: Path) -> int:
    """Lines of code of the core."""
    named = {f.relative_to(package).as_posix(): f for f in package.rglob("*.py")}
    core = [f for name, f in named.items() if name.startswith(CORE) and name not in INSTRUMENTS]
    return sum(code_lines(f.read_text(encoding="utf-8")) for f in core)


def check_size(lines: dict[str, int], core: int) -> tuple[str, list[str]]:
    """One line of figures, and one line for every limit that is passed."""
    problems = [
        f"{name}: {n} lines, the limit is {FILE_LIMIT}: is it still one idea?"
        for name, n in lines.items()
        if n > FILE_LIMIT
    ]
    if core > CORE_LIMIT:
        problems.append(f"the core ({', '.join(CORE)}): {core} lines, the limit is {CORE_LIMIT}")
    figures = f"package: {sum(lines.values())} lines in {len(lines)} files; core: {core} of {CORE_LIMIT} lines of code"
    return figures, problems


def main(arguments: list[str]) -> int:
    """Print the figures and the problems; the exit status says whether there are any."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    lines = count_lines(root / "eqprop_lab")
    if not lines:
        print(f"{root} holds no eqprop_lab package", file=sys.stderr)
        return 1
    figures, problems = check_size(lines, core_lines(root / "eqprop_lab"))
    print(figures)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
