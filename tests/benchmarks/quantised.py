"""int8 beside float32, on small networks that are trained on the digits.

    python -m tests.benchmarks.quantised

Writes data/results/quantised.json, which notebook 17 shows. Two minutes of CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import (
    BackpropMLP,
    EqPropTrainer,
    LoopedMLP,
    ResNetCifar,
    SmallCNN,
    build_dataset,
    export_to_onnx,
    load_trained,
    quantize,
)
from eqprop_lab.deploy.quantise import Quantised
from tests.benchmarks.published import RESULTS
from tests.benchmarks.store import write_result

SEEDS = (0, 1, 2)
# how to build it, its gradient, learning rate, epochs, whether it sees images
NETS: dict[str, tuple[Callable[[int], nn.Module], str, float, int, bool]] = {
    "MLP 512": (lambda s: BackpropMLP(64, 512, 10, seed=s), "autograd", 1e-3, 6, False),
    "LoopedMLP": (lambda s: LoopedMLP(64, 128, 10, seed=s), "centered", 3e-3, 6, False),
    "SmallCNN": (lambda s: SmallCNN(10, 1, (16, 32), seed=s), "autograd", 3e-3, 6, True),
    "ResNet-8": (lambda s: ResNetCifar(8, 10, 1, 8, seed=s), "autograd", 1e-2, 4, True),
}


def report(found: Quantised, method: str, name: str, seed: int) -> dict[str, Any]:
    """One row of the table."""
    return {
        "model": name,
        "seed": seed,
        "asked": method,
        "method": found.method,
        "bytes": found.bytes,
        "microseconds": found.microseconds,
        "largest": found.largest,
        "size": found.size,
        "agreement": found.agreement,
        "accuracy": found.accuracy,
    }


def digits_rows(folder: Path) -> list[dict[str, Any]]:
    """Every network of NETS; of those with convolutions both ways, and which is taken."""
    data, rows = build_dataset("digits"), []
    held = (
        torch.cat([data.validation.x, data.test.x]),
        torch.cat([data.validation.y, data.test.y]),
    )
    for name, (build, gradient, lr, epochs, images) in NETS.items():
        for seed in SEEDS:
            model = build(seed)
            trainer = EqPropTrainer(model, gradient, lr=lr, progress=False)
            trainer.fit(data.train.batches(32, shuffle=True, seed=seed), epochs)
            shape = (1, 1, 8, 8) if images else (1, 64)
            path = export_to_onnx(model.eval(), folder / "net.onnx", shape)
            for method in ("auto", "static") if images else ("auto",):
                found = quantize(path, data.train.x[:200], method=method, test=held)
                rows.append(report(found, method, name, seed))
    path = export_to_onnx(load_trained("digits_conv"), folder / "net.onnx", (1, 1, 8, 8))
    rows.append(report(quantize(path, test=(data.test.x, data.test.y)), "auto", "digits_conv", 0))
    return rows


def text_row(folder: Path) -> dict[str, Any]:
    """The hybrid language model on text of its own; the next character is the class."""
    model = load_trained("shakespeare_hybrid")
    tokens = model.generate(torch.zeros(16, 1, dtype=torch.int64), 96, seed=0)
    x, y = (part.reshape(48, 32) for part in (tokens[:, :-1], tokens[:, 1:]))
    path = export_to_onnx(model, folder / "net.onnx", (1, 32))
    return report(quantize(path, x, test=(x, y)), "auto", "shakespeare_hybrid", 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, quantise and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*digits_rows(Path(folder)), text_row(Path(folder))]
    about = {
        "seeds": SEEDS,
        "estimator": "centered, or autograd",
        "data": "digits; text that the model wrote",
    }
    write_result("quantised", about | {"rows": rows}, given.output)


if __name__ == "__main__":
    main()
