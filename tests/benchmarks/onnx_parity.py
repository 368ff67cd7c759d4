"""The logits of every model's ONNX file beside torch's.

    python -m tests.benchmarks.onnx_parity

Writes data/results/onnx_parity.json, which notebook 09 shows. The models are those of
`tests/deploy/test_onnx.py`, small and with no parameter at zero; the inputs are others than the
export compares.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eqprop_lab import count_parameters, export_to_onnx
from eqprop_lab.deploy.onnx import FEED_FORWARD, RELAXATION
from tests.benchmarks.published import RESULTS
from tests.benchmarks.store import write_result
from tests.deploy.test_onnx import MODELS, Row, apart, batch, built

SIZES = (1, 3, 8)


def parity(name: str, row: Row, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    model = built(row)
    path = export_to_onnx(model, folder / f"{name}.onnx", (1, *row.shape))
    return {
        "model": name,
        "relaxations": row.loops,
        "parameters": count_parameters(model),
        "bytes": path.stat().st_size,
        "apart": max(apart(path, model, batch(row, size)) for size in SIZES),
        "allowed": RELAXATION if row.loops else FEED_FORWARD,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, compare and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [parity(name, row, Path(folder)) for name, row in MODELS.items()]
    about = {"seeds": [0], "estimator": "none, logits alone", "batches": SIZES}
    write_result("onnx_parity", about | {"rows": rows}, given.output)


if __name__ == "__main__":
    main()
