"""`python -m eqprop_lab doctor`: is this machine fit for the notebooks, and if not, what to do?

It looks at versions, devices and folders and computes nothing: that is what `verify` does, and what
is quick here `speed` measures.
`doctor_lines()` is the part notebook 00 shows: the same on every sound machine, without paths, plus
every problem.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.version import Version
from torch import distributed

from eqprop_lab.acceleration import check_cupy_available
from eqprop_lab.commands.arguments import make_parser
from eqprop_lab.datasets import VISION, data_dir
from eqprop_lab.datasets.corpora import CORPORA, present
from eqprop_lab.datasets.torchvision_sets import import_torchvision, shim_in_use
from eqprop_lab.files import nearest
from eqprop_lab.quick_tanh import chosen
from eqprop_lab.tables import text_table

PYTHON_NEEDED = (3, 11)
OWN = "eqprop_lab"  # an extra may ask for another one
# torchvision 0.(n + 15) is the release that goes with torch 2.n.
VISION_OFFSET = 15


@dataclass(frozen=True)
class Row:
    """One finding: status "ok", "note" (something optional is absent) or "problem".

    `advice` says what to do.

    `local` rows differ from machine to machine (device, cores, folders) and stay out of committed
    notebooks.
    """

    name: str
    found: str
    status: str = "ok"
    advice: str = ""
    local: bool = False


def python_row(version: tuple[int, int]) -> Row:
    """The Python version against the oldest one that is supported."""
    needed = ".".join(map(str, PYTHON_NEEDED))
    if version < PYTHON_NEEDED:
        return Row(
            "python", platform.python_version(), "problem", f"install Python {needed} or newer"
        )
    return Row("python", platform.python_version())


def _extra(line: str) -> str:
    """The extra that a requirement line belongs to, or "core"."""
    found = re.search(r"extra\s*==\s*[\"'](\w+)", line)
    return found.group(1) if found else "core"


def looked_at(requirements: Sequence[str]) -> dict[str, str]:
    """{extra: status of a package of it that is missing}.

    A problem for the core, the extra `lab` and what it brings, a note for `test` and `onnx`; the
    others are optional, and CuPy has rows of its own.
    """
    brought: dict[str, set[str]] = {}
    for line in requirements:
        requirement = Requirement(line)
        if requirement.name == OWN:
            brought.setdefault(_extra(line), set()).update(requirement.extras)
    needed = {"core", "lab", *brought.get("lab", ())}
    return {name: "problem" for name in needed} | {
        name: "note" for name in ("test", "onnx") if name not in needed
    }


def package_rows(requirements: Sequence[str]) -> Iterator[Row]:
    """Installed versions against requirement lines as a distribution's metadata states them."""
    groups = looked_at(requirements)
    for line in requirements:
        requirement, group = Requirement(line), _extra(line)
        if group not in groups or requirement.name == OWN:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": group}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            # Without the local tag ("+cpu"): which build it is says the row of the pair.
            found = Version(metadata.version(requirement.name)).public
        except metadata.PackageNotFoundError:
            advice = f"{wanted} is in the extra '{group}'"
            yield Row(requirement.name, "not installed", groups[group], advice)
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield Row(requirement.name, found)
        else:
            yield Row(requirement.name, found, "problem", f"{wanted} is needed")


def vision_row(torch_version: str, vision_version: str, shim: bool) -> Row:
    """Do torch and torchvision belong together, and is the import shim at work?"""
    state = "in use" if shim else "not needed"
    found = f"{vision_version} beside torch {torch_version}, import shim {state}"
    ours = Version(torch_version)
    wanted = ours.minor + VISION_OFFSET
    if Version(vision_version).minor != wanted:
        right = f"torchvision 0.{wanted} goes with torch {ours.public}"
        return Row("torchvision pair", found, "problem", right)
    return Row("torchvision pair", found, local=True)


def cuda_row() -> Row:
    """What torch finds; no GPU is a note, every notebook runs on a CPU."""
    if torch.cuda.is_available():
        return Row(
            "CUDA", f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}", local=True
        )
    built = (
        f"torch is built for CUDA {torch.version.cuda}"
        if torch.version.cuda
        else "a CPU build of torch"
    )
    return Row("CUDA", f"no device ({built})", "note", "the notebooks run on the CPU", local=True)


def cupy_rows(torch_cuda: str | None) -> Iterator[Row]:
    """Does CuPy work, and does it go with torch? The device is probed as the package does it."""
    packages = sorted(
        {d.name for d in metadata.distributions() if d.name and d.name.startswith("cupy-cuda")}
    )
    if len(packages) > 1:
        advice = "uninstall all of them, then install one"
        yield Row("CuPy packages", ", ".join(packages), "problem", advice, local=True)
    usable, why = check_cupy_available()
    cupy = sys.modules.get("cupy")
    if cupy is None:
        status = "problem" if packages else "note"
        yield Row("CuPy", why, status, "optional: the extra 'gpu' or 'gpu13'", local=True)
        return
    status, advice = ("ok", "") if usable else ("note", "the kernel uses NumPy")
    yield Row("CuPy", why, status, advice, local=True)
    major = int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    if torch_cuda and int(torch_cuda.split(".")[0]) != major:
        found = f"CuPy {major}, torch {torch_cuda.split('.')[0]}"
        yield Row("CUDA majors", found, "problem", "choose the extra that fits torch", local=True)


def processor_row() -> Row:
    """Which vectors torch and NumPy use: with AVX-512, elementwise steps cost a part of AVX2's."""
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    numpy_has = [*simd.get("baseline", ["nothing of its own"]), *simd.get("found", ())][-1]
    kinds = f"torch {torch.backends.cpu.get_cpu_capability()}, NumPy {numpy_has}"
    return Row("processor", f"{platform.machine()}, {kinds}", local=True)


def thread_row() -> Row:
    """Threads of torch and cores of the machine."""
    omp = os.environ.get("OMP_NUM_THREADS", "unset")
    found = f"torch {torch.get_num_threads()}, cores {os.cpu_count()}, OMP {omp}"
    return Row("threads", found, local=True)


def processes_row() -> Row:
    """What joins the processes of one training: Gloo on CPUs, NCCL on GPUs."""
    able = distributed.is_available()
    ways = [
        name
        for name, there in (("Gloo", "is_gloo_available"), ("NCCL", "is_nccl_available"))
        if able and getattr(distributed, there)()
    ]
    if not ways:
        advice = "a training runs in one process; another build of torch has Gloo"
        return Row("torchrun", "this torch joins no processes", "note", advice, local=True)
    return Row("torchrun", f"joins processes by {' and '.join(ways)}", local=True)


def activation_row() -> Row:
    """How this machine evaluates the activation of a relaxation on its CPU."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return Row("activation", f"{chosen()}, torch with {vectors}", local=True)


def data_rows(folder: Path) -> Iterator[Row]:
    """The folder of downloaded sets and which of them are there."""
    yield Row("data folder", str(folder), local=True)
    there = [name for name, entry in VISION.items() if (folder / entry.file).exists()]
    absent = [name for name in VISION if name not in there]
    yield Row("data sets", ", ".join(["digits", "two_moons", "xor", *there]), local=bool(there))
    if absent:
        yield Row("data sets absent", ", ".join(absent), "note", "see data/README.md", local=True)
    texts = present(folder)
    yield Row("texts", ", ".join(texts), local=True)
    if missing := [name for name in CORPORA if name not in texts]:
        yield Row("texts absent", ", ".join(missing), "note", "see data/README.md", local=True)


def kernel_row() -> Row:
    """Does the kernel named python3 run this Python?

    An old kernel of the user may stand in front of it.
    """
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return Row(
            "kernel python3",
            "jupyter_client is not installed",
            "problem",
            "install the extra 'lab'",
        )
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Row(
            "kernel python3", "not installed", "problem", "install the extra 'lab' (ipykernel)"
        )
    same = (
        Path(command).name == command or Path(command).absolute() == Path(sys.executable).absolute()
    )
    if not same:
        advice = "remove that kernel: jupyter kernelspec remove python3"
        return Row("kernel python3", f"another Python: {command}", "problem", advice, local=True)
    return Row("kernel python3", "this environment")


def dashboard_row() -> Row:
    """Voila, which serves the dashboard as an application; notebook 18 does without."""
    try:
        return Row("dashboard", f"voila {metadata.version('voila')}", local=True)
    except metadata.PackageNotFoundError:
        advice = "pip install 'eqprop_lab[dashboard]' for `make dashboard`"
        return Row("dashboard", "voila is not installed", "note", advice, local=True)


def browser_row() -> Row:
    """A Chromium for the browser tests; without one they are skipped."""
    caches = [
        os.environ.get("PLAYWRIGHT_BROWSERS_PATH"),
        "~/.cache/ms-playwright",
        "~/Library/Caches/ms-playwright",
    ]
    found = any(any(Path(cache).expanduser().glob("chromium*")) for cache in caches if cache)
    installed = found or any(
        shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")
    )
    if installed:
        return Row("Chromium", "found", local=True)
    return Row(
        "Chromium",
        "not found",
        "note",
        "playwright install chromium; the browser tests skip",
        local=True,
    )


def folder_rows(folders: Sequence[Path]) -> Iterator[Row]:
    """Can the folders be written?

    The nearest existing one is tried where a folder is not there yet.
    """
    for folder in folders:
        place = nearest(Path.is_dir, folder) or folder
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            reason = f"not writable: {error.strerror or error}"
            yield Row(
                f"folder {folder.name}",
                reason,
                "problem",
                "give yourself the right to write",
                local=True,
            )
        else:
            yield Row(f"folder {folder.name}", "writable", local=True)


def environment_report() -> list[Row]:
    """Every finding about this environment, in a fixed order. Nothing is downloaded or changed."""
    try:
        requirements = metadata.requires("eqprop_lab") or []
        own = [Row("eqprop_lab", metadata.version("eqprop_lab"))]
    except metadata.PackageNotFoundError:
        requirements = []
        own = [Row("eqprop_lab", "not installed", "problem", "pip install -e '.[lab]'")]
    vision = import_torchvision()
    here = Path.cwd()
    return [
        python_row(sys.version_info[:2]),
        *own,
        *package_rows(requirements),
        vision_row(torch.__version__, vision.__version__, shim_in_use()),
        kernel_row(),
        cuda_row(),
        *cupy_rows(torch.version.cuda),
        processor_row(),
        thread_row(),
        processes_row(),
        activation_row(),
        *data_rows(data_dir()),
        dashboard_row(),
        browser_row(),
        *folder_rows([here / "runs", here / "figures", data_dir()]),
    ]


def doctor_lines(rows: Sequence[Row] | None = None, machine: bool = False) -> list[str]:
    """The report as lines.

    Without `machine`: only what is the same on every sound machine, and all problems.
    """
    rows = environment_report() if rows is None else rows
    shown = [row for row in rows if machine or not row.local or row.status == "problem"]
    cells = [
        (f"{row.status:<7}", row.name, row.found + (f"  ({row.advice})" if row.advice else ""))
        for row in shown
    ]
    lines = text_table(cells)
    problems = sum(row.status == "problem" for row in rows)
    return [*lines, f"{problems} problems" if problems else "everything needed is here"]


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 when there is a problem."""
    make_parser("doctor", __doc__).parse_args(argv)
    rows = environment_report()
    print("\n".join(doctor_lines(rows, machine=True)))
    return 1 if any(row.status == "problem" for row in rows) else 0
