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

ROOT = Path(__file__).resolve().parent.parent
pytest_plugins = ["tests.pieces"]

# Not through MPLBACKEND: kernels would inherit it, and notebooks need the inline backend.
matplotlib.use("Agg")
torch.set_num_threads(1)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a name with a set in it: its order differs between the processes of a run, which then
    have different tests, and nothing is run.
    """
    for item in items:
        parameters = getattr(item, "callspec", None)
        for value in parameters.params.values() if parameters else ():
            if isinstance(value, set | frozenset) and len(value) > 1 and str(value) in item.name:
                raise pytest.UsageError(f"{item.nodeid}: give it ids that do not hang on a set")
