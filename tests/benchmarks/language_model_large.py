"""The larger stored run of notebook 07: the hybrid beside its twin, longer windows, more steps.

    python -m tests.benchmarks.language_model_large

Windows of 128 characters, three layers of 128, batches of 16, one seed, one learning rate for both:
half of what the smaller ones had, for twice the width; nothing else was tried. The test text is
scored once, after training. Writes data/results/language_model_large.json; a run that is stored
there is not made again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import get_lm_dataset
from eqprop_lab.files import replace_text
from eqprop_lab.models.language.looped import HybridEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM
from tests.benchmarks.language_models import BATCH, PIECE, TEXT, VOCABULARY, Steps, floors, whole
from tests.benchmarks.published import RESULTS, Row, read

TOKENS, STEPS, RATE, SEED = 128, 2500, 6e-3, 0
SIZES = {"hidden_dim": 128, "num_layers": 3, "num_heads": 4, "max_seq_len": TOKENS}
PHASES: dict[str, dict[str, Any]] = {
    "hybrid": {"gradient": "response", "free_steps": 6, "nudged_steps": 4},
    "transformer": {"gradient": "autograd"},
}
CLASSES: dict[str, type[nn.Module]] = {
    "hybrid": HybridEqPropLM,
    "transformer": BackpropTransformerLM,
}


def train(network: str) -> Row:
    """The record of one run."""
    model = CLASSES[network](VOCABULARY, **SIZES, seed=SEED)
    trainer = EqPropTrainer(
        model, lr=RATE, clip_norm=1.0, schedule="cosine", progress=False, **PHASES[network]
    )
    start = time.process_time()
    history = trainer.fit(Steps(SEED, tokens=TOKENS), epochs=STEPS // PIECE)
    row: Row = {
        "variant": network,
        "estimator": trainer.gradient,
        "lr": RATE,
        "seed": SEED,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": STEPS,
        "cpu_seconds": round(time.process_time() - start, 1),
        "curve": [[PIECE * (n + 1), round(v, 4)] for n, v in enumerate(history["train_loss"])],
    }
    for split in ("validation", "test"):
        loader, _ = get_lm_dataset(TEXT, TOKENS, 64, split)
        found = trainer.evaluate(loader)
        bits = round(found["bits_per_character"], 4)
        row |= {split: round(found["loss"], 4), f"{split}_bits": bits}
    return row


def main() -> None:
    """Train what is missing, store each run at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.output / "language_model_large.json"
    for network in CLASSES:
        rows = (read(path) or {}).get("runs", [])
        if any(row["variant"] == network for row in rows):
            continue
        rows = [*rows, train(network)]
        shared = {key: whole({"ngrams": {}}, [])[key] for key in ("device", "versions")}
        recipe = {
            "seq_len": TOKENS,
            "batch_size": BATCH,
            "steps": STEPS,
            "lr": RATE,
            "sizes": SIZES,
        }
        result = shared | {
            "date": datetime.date.today().isoformat(),
            "seeds": [SEED],
            "estimator": str(PHASES["hybrid"]["gradient"]),
            "dataset": TEXT,
            "recipe": recipe | {"phases": PHASES},
            "ngrams": floors(),
            "runs": rows,
        }
        replace_text(path, json.dumps(result, indent=1) + "\n")
        print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)


if __name__ == "__main__":
    main()
