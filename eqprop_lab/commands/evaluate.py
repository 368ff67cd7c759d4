"""`python -m eqprop_lab evaluate CHECKPOINT --data NAME`: loss and accuracy of a stored model.

Of a language model also bits per character; another text is written in the vocabulary of its own.
The checkpoint carries its config, which says how to build the model; one saved outside `train`
needs `--config`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.datasets import DataSet
from eqprop_lab.datasets.registry import SOURCES
from eqprop_lab.datasets.windows import TextSet, text_set
from eqprop_lab.experiments.config import ExperimentConfig
from eqprop_lab.experiments.data import build_data, data_name
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.reopening import load
from eqprop_lab.validation import a_path

SPLITS = ("validation", "test", "train")


def choose_data(config: ExperimentConfig, name: str | None, root: str | None) -> DataSet | TextSet:
    """The data of the config, or those named.

    Options count only for their own set; a text is read in the windows and with the vocabulary of
    the text of the config.
    """
    options: dict[str, Any] = dict(config.data)
    vocab = None
    if name is not None and (chosen := data_name(name)) != options["name"]:
        trained, texts = options, {chosen, options["name"]} - SOURCES.keys()
        options = {"name": chosen}
        if len(texts) == 1:
            raise ValueError(
                f"--data must be {'a' if trained['name'] in texts else 'no'} text, as "
                f"{trained['name']} is, got {chosen!r}"
            )
        if texts:
            options |= {k: trained[k] for k in ("seq_len", "level") if k in trained}
            vocab = text_set(**trained).vocab
    if root is not None:
        options["root"] = root
    return build_data(options, vocab)


def main(argv: Sequence[str]) -> int:
    """Print the figures; 2 for a wrong call, a checkpoint or data set that cannot be used."""
    parser = make_parser("evaluate", __doc__, "--device")
    parser.add_argument(
        "checkpoint",
        type=lambda text: a_path("checkpoint", text),
        help="a checkpoint, or the folder of a run",
    )
    parser.add_argument("--data", metavar="NAME", help="data set (the one it was trained on)")
    parser.add_argument(
        "--split", choices=SPLITS, default="validation", help="%(default)s; look at test once"
    )
    parser.add_argument("--root", metavar="FOLDER", help="where the files of the data set are")
    parser.add_argument(
        "--config", metavar="FILE", help="the config, for a checkpoint that carries none"
    )
    options = parser.parse_args(argv)
    try:
        trainer, config = load(options.checkpoint, options.config, options.device)
        data = choose_data(config, options.data, options.root)
        split = getattr(data, options.split)
        result = trainer.evaluate(split.batches(config.batch_size))
    except USERS_ERRORS as error:
        return refuse(error)
    settled = "" if math.isnan(result["residual"]) else f", residual {result['residual']:.1e}"
    each = result.get("bits_per_character")
    bits = "" if each is None else f", {each:.3f} bits per character"
    kept = "" if trainer.state.last is None else " (the parameters kept from an earlier one)"
    print(
        f"{config.model} after {trainer.history.epochs} epochs{kept}, {data.name} {options.split} "
        f"({result['samples']} {data.unit}): accuracy {result['accuracy']:.4f}, "
        f"loss {result['loss']:.4f}{bits}{settled}"
    )
    return 0
