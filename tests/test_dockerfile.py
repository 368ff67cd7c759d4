"""The image is pinned, does not run as root, holds the package alone; what it runs works here."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "Dockerfile"
WAIT = 30.0


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, its lines joined."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in parts]


def arguments(name: str) -> list[str]:
    return [text for found, text in instructions() if found == name]


def command(text: str) -> list[str]:
    """The words of a command in JSON form."""
    words = json.loads(text[text.index("[") :])
    assert words and all(isinstance(word, str) for word in words)
    return list(words)


def test_it_is_pinned_and_not_root() -> None:
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM" and re.fullmatch(r"python:3\.\d+-slim", arguments("FROM")[0])
    assert "ADD" not in names and names.count("CMD") == 1
    installs = re.findall(r"pip install [^&]*", " ".join(arguments("RUN")))
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in text for text in installs)
    assert arguments("USER") == ["10001"]
    assert names.index("USER") < names.index("CMD") and "latest" not in arguments("FROM")[0]


def test_what_it_copies_is_let_in_and_nothing_else_is() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and line[0] != "#"]
    let_in = {rule[1:] for rule in rules if rule[0] == "!"}
    copied = {word for text in arguments("COPY") for word in text.split()[:-1]}
    assert rules[0] == "*" and let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def here(words: list[str], port: str) -> list[str]:
    assert words[0] == "python"
    return [sys.executable, *(word.replace("8000", port) for word in words[1:])]


def test_its_command_answers_its_health_check(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
    (health,) = arguments("HEALTHCHECK")
    check = here(command(health), port)
    assert subprocess.run(check, capture_output=True, timeout=WAIT).returncode != 0
    serving = here(command(arguments("CMD")[0]), port)
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None and "serving at" in process.stdout.readline()
            start = time.monotonic()
            done = subprocess.run(check, capture_output=True, timeout=WAIT)
            assert done.returncode == 0, done.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0 and time.monotonic() - start < WAIT
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())


def test_hadolint_has_nothing_to_say() -> None:
    tool = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if tool is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([tool, str(FILE)], capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0, done.stdout + done.stderr
