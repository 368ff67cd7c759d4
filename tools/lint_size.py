"""How large the package is, room by room: `python tools/lint_size.py [folder of the checkout]`.

Prints files, lines and statements of each room, what has changed since the last git tag, lines of
more than 100 characters and statements that share a line. A picture and no gate: it fails only
where there is no package.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "eqprop_lab"
LONG = 100
COLUMNS = ("files", "lines", "statements", "long", "packed")


def measure(source: str) -> Counter[str]:
    """The columns for one file. Packed: `a, b = f(x), g(y)`, and what follows a semicolon."""
    lines = source.splitlines()
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    starts = Counter(node.lineno for node in statements if not _is_stub(node))
    return Counter(
        files=1,
        lines=len(lines),
        statements=len(statements),
        long=sum(len(line) > LONG for line in lines),
        packed=sum(map(_unpacks, statements)) + starts.total() - len(starts),
    )


def _is_stub(node: ast.stmt) -> bool:
    """Whether a statement is `...`."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and value.value is ...


def _unpacks(node: ast.stmt) -> bool:
    """Whether a statement assigns several things at once, calls among them."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
        and any(isinstance(part, ast.Call) for part in ast.walk(node.value))
    )


def rooms(sources: Mapping[str, str]) -> dict[str, Counter[str]]:
    """The columns by room, from the sources by path inside the package."""
    found: dict[str, Counter[str]] = {}
    for path, source in sorted(sources.items()):
        room = path.partition("/")[0] if "/" in path else "(top)"
        found[room] = found.get(room, Counter()) + measure(source)
    return found


def sources_now(root: Path) -> dict[str, str]:
    """The Python files of the package as they lie there."""
    package = root / PACKAGE
    files = sorted(package.rglob("*.py"))
    return {f.relative_to(package).as_posix(): f.read_text(encoding="utf-8") for f in files}


def last_release(root: Path) -> tuple[str, dict[str, str]] | None:
    """The newest tag behind what is checked out, and the files of the package there."""
    try:
        tag = _git(root, "describe", "--tags", "--abbrev=0").decode().strip()
        packed = _git(root, "archive", tag, PACKAGE)
    except (OSError, subprocess.CalledProcessError):  # no git, no tag, no package in it
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return tag, {
            name.removeprefix(f"{PACKAGE}/"): file.read().decode("utf-8")
            for name, file in files.items()
            if file and name.endswith(".py")
        }


def _git(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def table(now: Mapping[str, Counter[str]], before: Mapping[str, Counter[str]] | None) -> str:
    """A line a room and one for all; with `before`, also the change in lines and statements."""
    old = before or {}
    changes = () if before is None else ("lines", "statements")
    head = [*COLUMNS, *(f"+-{name}" for name in changes)]
    lines = [f"{'room':14}" + "".join(f"{name:>13}" for name in head)]
    rows = [
        (room, now.get(room, Counter()), old.get(room, Counter())) for room in sorted({*now, *old})
    ]
    rows.append(("all", sum(now.values(), Counter()), sum(old.values(), Counter())))
    for room, new, was in rows:
        cells = [f"{new[name]:>13}" for name in COLUMNS]
        cells += [f"{new[name] - was[name]:>+13}" for name in changes]
        lines.append(f"{room:14}" + "".join(cells))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the picture; 1 only where there is no package."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    now = rooms(sources_now(root))
    if not now:
        print(f"{root} holds no {PACKAGE} package", file=sys.stderr)
        return 1
    release = last_release(root)
    print(table(now, rooms(release[1]) if release else None))
    print(f"changes are since {release[0]}" if release else "no tag yet: nothing to compare with")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
