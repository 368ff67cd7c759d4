"""Scripts of others that pages need, fetched once by npm and checked, so that pages ask nobody."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "runs" / "vendor"


class VendorError(RuntimeError):
    """Why a script is not here; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A version on npm with the sha512 of its archive, and the parts of it that are wanted."""

    name: str
    version: str
    sha512: str
    parts: Sequence[str]

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return f"{self.name}-{self.version}"


MATHJAX = Package(
    "mathjax",
    "3.2.2",
    "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
    ("es5/tex-mml-chtml.js", "es5/output/chtml/fonts/woff-v2"),
)
REVEAL = Package(
    "reveal.js",
    "4.6.1",
    "1CW0auaXNPmwmvQ7TwpszwVxMi2Xr5cTS3J3EBC/HHgbPF32Dn7aiu/LKWDOGjMbaDwKQiGmfqcoGQ74HUHCMw==",
    ("dist", "plugin/notes", "LICENSE"),
)


def vendored(package: Package, store: Path = STORE) -> Path:
    """The folder of a package in the store; fetched where it is not there. Raises VendorError."""
    folder = store / package.folder
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        archive = _packed(package, Path(scratch))
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != package.sha512:
            raise VendorError(f"{archive.name} is another file than before: sha512 {found}")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        _keep(Path(scratch) / "package", package.parts, folder)
    return folder


def _packed(package: Package, place: Path) -> Path:
    if shutil.which("npm") is None:
        raise VendorError(
            f"npm is needed once, to fetch {package.name} {package.version} (or put the folder "
            f"{package.folder} into {STORE})"
        )
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    archives = list(place.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise VendorError(f"npm could not fetch {package.name}: {done.stderr.strip()[-300:]}")
    return archives[0]


def _keep(source: Path, parts: Sequence[str], folder: Path) -> None:
    """Copy the parts beside the store, then move them in: half a package is never seen."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in parts:
        target = part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, target)
    part.replace(folder)
