"""Keep the package small enough to read: `python tools/lint_size.py [folder of the checkout]`.

Prints the lines of the package and of its core; exits 1 when a file or the core is over its limit.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE_LIMIT = 260
CORE_LIMIT = 1200
# What a reader needs to understand all of the physics and its training, relative to the package.
CORE = ("equilibrium/", "models/base.py", "models/looped_mlp.py", "training/trainer.py")


def count_lines(package: Path) -> dict[str, int]:
    """Lines of every Python file of the package, by path relative to it."""
    files = sorted(package.rglob("*.py"))
    return {f.relative_to(package).as_posix(): len(f.read_text(encoding="utf-8").splitlines()) for f in files}


def check_size(lines: dict[str, int]) -> tuple[str, list[str]]:
    """One line of figures, and one line for every limit that is passed."""
    core = sum(n for name, n in lines.items() if name.startswith(CORE))
    problems = [
        f"{name}: {n} lines, the limit is {FILE_LIMIT}: is it still one idea?"
        for name, n in lines.items()
        if n > FILE_LIMIT
    ]
    if core > CORE_LIMIT:
        problems.append(f"the core ({', '.join(CORE)}): {core} lines, the limit is {CORE_LIMIT}")
    figures = f"package: {sum(lines.values())} lines in {len(lines)} files; core: {core} of {CORE_LIMIT}"
    return figures, problems


def main(arguments: list[str]) -> int:
    """Print the figures and the problems; the exit status says whether there are any."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    lines = count_lines(root / "eqprop_lab")
    if not lines:
        print(f"{root} holds no eqprop_lab package", file=sys.stderr)
        return 1
    figures, problems = check_size(lines)
    print(figures)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
