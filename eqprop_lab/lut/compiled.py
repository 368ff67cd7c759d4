"""The hard network by the system's C compiler: the kernel of counts.c, 512 samples at a time.

    network = CompiledNetwork(model)        network.counts(x) == PackedNetwork(model).counts(x)

The kernel is compiled at first use, for this machine, and kept in a cache folder; it is generic, so
that one file serves every network. Where no compiler is, `PackedNetwork` does the same in NumPy.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqprop_lab.files import replace_file
from eqprop_lab.lut.feedforward import SimpleFeedForward, hard_layers
from eqprop_lab.lut.packed import PackedNetwork
from eqprop_lab.validation import a_path

SOURCE = Path(__file__).with_name("counts.c")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120  # for a file that takes one
CACHE = Path("~/.cache/eqprop_lab/compiled")


def compiler() -> str:
    """Path of $CC, or of the first of cc, gcc, clang. Raises RuntimeError where there is none."""
    asked = os.environ.get("CC")
    for name in [asked] if asked else COMPILERS:
        if found := shutil.which(name):
            return found
    wanted = f"$CC ({asked})" if asked else ", ".join(COMPILERS)
    raise RuntimeError(
        f"no C compiler was found, looked for {wanted}: install one, or let CC name it; "
        "PackedNetwork gives the same counts without"
    )


def built(folder: Path, command: str) -> Path:
    """The library of SOURCE in `folder`, compiled unless it is there, whole or not at all.

    Its name is of source, flags, compiler and processor: nothing of another machine is loaded.
    Raises RuntimeError with what the compiler said; OSError for a folder that cannot be written.
    """
    told = "\0".join([SOURCE.read_text(), *FLAGS, command, _version(command), _processor()])
    path = folder / f"counts_{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not path.is_file():
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / "counts.so"
            _run([command, *FLAGS, str(SOURCE), "-o", str(made)])
            content = made.read_bytes()
        replace_file(path, lambda file: file.write(content))
    return path


def _version(command: str) -> str:
    return _run([command, "--version"])


def _processor() -> str:
    """What -march=native depends on, as far as the system tells."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    kinds = ("flags", "Features", "model name")
    known = sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join([platform.machine(), platform.processor(), platform.node(), *known])


def _run(command: list[str]) -> str:
    """What a command prints. Raises RuntimeError saying what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{command[0]} could not be run: {error}") from error
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed to compile counts.c: {done.stderr.strip()[-500:]}")
    return done.stdout


@lru_cache(maxsize=8)
def _loaded(folder: Path, command: str) -> Any:
    """The function lut_counts of the compiled library."""
    function = ctypes.CDLL(str(built(folder, command))).lut_counts
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [
        pointer, ctypes.c_int, number, number, pointer, number, number, number, number,
        pointer, pointer, pointer, number, pointer, pointer,
    ]  # fmt: skip
    function.restype = ctypes.c_int
    return function


class CompiledNetwork(PackedNetwork):
    """A feed-forward LUT network for inference in C.

    model: as for `PackedNetwork`. cache: folder of the compiled kernel, None: that of the user.
    Raises RuntimeError where there is no C compiler, or it fails; otherwise as `PackedNetwork`.
    """

    def __init__(self, model: SimpleFeedForward, cache: str | Path | None = None) -> None:
        super().__init__(model)
        folder = a_path("cache", CACHE if cache is None else cache)
        self.function = _loaded(folder.resolve(), compiler())
        tables = [table.numpy() for _, table in hard_layers(model)]
        wiring = [layer.index for layer in self.layers]
        if len(wiring[0]) == 1:  # a leaf has two pins: the second one is not looked at
            wiring = [np.repeat(index, 2, axis=0) for index in wiring]
            tables = [np.tile(table, 2) for table in tables]
        self.pins = len(wiring[0])
        self.index = np.concatenate([index.T.ravel() for index in wiring]).astype(np.int32)
        self.leaves = np.concatenate([_leaves(table) for table in tables])
        inputs = self.features * self.thresholds.shape[1]
        self.sizes = np.array([inputs, *(len(table) for table in tables)], dtype=np.int64)
        ends = np.cumsum([0, *(len(part) for part in self.widths)])
        self.starts = ends.astype(np.int64)

    def _all_counted(self, rows: NDArray[np.floating]) -> NDArray[np.int64]:
        if self.range is not None:
            low, high = (edge[:, 0] for edge in self.range)
            rows = np.clip(rows, low, high)
        rows = np.ascontiguousarray(rows)
        thresholds = np.ascontiguousarray(self.thresholds)
        found = np.zeros((len(rows), self.classes), np.int64)
        bits, wide = thresholds.shape[1], int(rows.dtype == np.float64)
        step = bits if len(thresholds) > 1 else 0
        failed = self.function(
            rows.ctypes.data, wide, len(rows), self.features, thresholds.ctypes.data, bits, step,
            len(self.layers), self.pins, self.sizes.ctypes.data, self.index.ctypes.data,
            self.leaves.ctypes.data, self.classes, self.starts.ctypes.data, found.ctypes.data,
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for the bits of 512 samples")
        return found


def _leaves(table: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Four entries of a table (O, 2^n) as one number, the function of the lowest two pins."""
    fours = table.reshape(-1, 4).astype(np.uint8)
    return (fours << np.arange(4, dtype=np.uint8)).sum(1, dtype=np.uint8)
