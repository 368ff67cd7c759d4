"""What every test shares: one thread, no window system, no personal Jupyter settings, fixed
generators.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before numpy and torch load, and inherited by the kernels that tests start: two kernels on two
# cores leave no room for thread pools, and sums in a fixed order are what makes numbers repeat.
for _pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_pool] = "1"
# jupyter_core warns about its coming default until somebody chooses.
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")

import matplotlib
import numpy as np
import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent

# Not through MPLBACKEND: kernels would inherit it, and notebooks need the inline backend.
matplotlib.use("Agg")
torch.set_num_threads(1)


LONGEST = ("tests/browser", "tests/regression/test_series.py", "tests/regression/test_mutations.py")


def piece(nodeid: str) -> str:
    """What one worker runs as a whole: the browser tests, which share a server, or a file, which
    shares fixtures.
    """
    path = nodeid.split("::")[0]
    return LONGEST[0] if path.startswith(LONGEST[0]) else path


class Pieces(LoadScopeScheduling):  # type: ignore[misc]
    """The scheduler of pytest-xdist for them. Its own groups are marks in the ids of tests, which
    pytest 9 ignores.
    """

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Pieces:
    """Piece by piece, whatever --dist says."""
    return Pieces(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest pieces first: nobody waits for one of those at the end."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(piece(item.nodeid), len(first)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_jupyter_settings() -> Iterator[None]:
    """Kernels and servers started by tests read no personal configuration and write no personal
    history.
    """
    with tempfile.TemporaryDirectory(
        prefix="eqprop_lab-jupyter-", ignore_cleanup_errors=True
    ) as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IPYTHONDIR", str(Path(folder, "ipython")))
            patch.setenv("JUPYTER_CONFIG_DIR", str(Path(folder, "config")))
            yield


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Each test starts from the same global generators and leaves torch's defaults and no figure
    behind.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
