"""The larger stored run of notebook 07: the hybrid beside its twin, longer windows, more steps.

    python -m tests.benchmarks.language_model_large

Windows of 128 characters, three layers of 128, batches of 16, one seed, one learning rate for both:
half of what the smaller ones had, for twice the width; nothing else was tried. The test text is
scored once, after training. Writes data/results/language_model_large.json; a run that is stored
there is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqprop_lab.files import replace_text
from eqprop_lab.models.language.looped import HybridEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM
from tests.benchmarks.language_models import BATCH, VOCABULARY, fitted, floors, head, scored
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


def train(network: str, device: str = "cpu") -> Row:
    """The record of one run."""
    model = CLASSES[network](VOCABULARY, **SIZES, seed=SEED)
    how = PHASES[network] | {"device": device}
    trainer, row = fitted(model, RATE, SEED, STEPS, how, TOKENS)
    row = {"variant": network} | row
    return row | scored(trainer, "validation", TOKENS) | scored(trainer, "test", TOKENS)


def main() -> None:
    """Train what is missing, store each run at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.output / "language_model_large.json"
    for network in CLASSES:
        rows = (read(path) or {}).get("runs", [])
        if any(row["variant"] == network for row in rows):
            continue
        rows = [*rows, train(network, given.device)]
        recipe = {
            "seq_len": TOKENS,
            "batch_size": BATCH,
            "steps": STEPS,
            "lr": RATE,
            "sizes": SIZES,
        }
        result = head(rows) | {
            "estimator": str(PHASES["hybrid"]["gradient"]),
            "recipe": recipe | {"phases": PHASES},
            "ngrams": floors(),
            "runs": rows,
        }
        replace_text(path, json.dumps(result, indent=1) + "\n")
        print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)


if __name__ == "__main__":
    main()
