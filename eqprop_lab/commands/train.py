"""`python -m eqprop_lab train CONFIG`: train what a YAML file describes and keep it as a run.

CONFIG is a path or the name of a recipe of the package. The run goes to `runs/<id>` with its
config, versions, curves and a checkpoint after every epoch; an interrupted one goes on with
`--resume ID`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

from eqprop_lab.datasets import DataUnavailable
from eqprop_lab.experiments.config import (
    build_experiment,
    fit_experiment,
    list_recipes,
    load_config,
    on_device,
    parse_config,
)
from eqprop_lab.experiments.runs import Run, RunError, RunStore
from eqprop_lab.training import BatchError, CheckpointError
from eqprop_lab.training.loggers import Logger, TensorBoardLogger, WandbLogger


def show(record: dict[str, Any]) -> None:
    """One line an epoch; the residual is that of the evaluation, for networks that settle."""
    settled = (
        "" if math.isnan(record["val_residual"]) else f"residual {record['val_residual']:.1e}  "
    )
    print(
        f"epoch {record['epoch']:>3}  train loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.4f}  "
        f"validation loss {record['val_loss']:.4f}  accuracy {record['val_accuracy']:.4f}  "
        f"{settled}norm {record['norm']:.3f}  {record['seconds']:.1f} s",
        flush=True,
    )


def loggers(experiment: dict[str, Any], run: Run) -> list[Logger]:
    """What `use_wandb` and `use_tensorboard` ask for, writing into the folder of the run. Raises
    ImportError.
    """
    found: list[Logger] = []
    if experiment["use_wandb"]:
        found.append(
            WandbLogger(experiment["project"], folder=run.folder / "wandb", name=experiment["name"])
        )
    if experiment["use_tensorboard"]:
        found.append(TensorBoardLogger(run.folder / "tensorboard"))
    return found


def main(argv: Sequence[str]) -> int:
    """0 when the training is done, 2 for a wrong call, config or data, 1 when a batch fails or the
    disk is full.
    """
    parser = argparse.ArgumentParser(prog="python -m eqprop_lab train", description=__doc__)
    parser.add_argument(
        "config", nargs="?", help=f"a YAML file, or one of: {', '.join(list_recipes())}"
    )
    parser.add_argument(
        "--runs", default="runs", metavar="FOLDER", help="the store of runs (%(default)s)"
    )
    parser.add_argument("--resume", metavar="ID", help="go on with this run, with its own config")
    parser.add_argument("--device", metavar="NAME", help="where to compute (where the config says)")
    options = parser.parse_args(argv)
    if (options.config is None) == (options.resume is None):
        parser.error("give either a CONFIG or --resume ID")
    store = RunStore(options.runs)
    training = False
    try:
        run = store.get(options.resume) if options.resume else None
        config = (
            load_config(options.config, options.device)
            if run is None
            else parse_config(on_device(run.config, options.device))
        )
        trainer, data = build_experiment(config)
        run = store.create(config.as_dict()) if run is None else run
        watchers = [show, *loggers(config.experiment, run), run]
        print(
            f"run {run.id}: {config.model} on {data.name}, {len(data.train)} samples, {config.epochs} epochs"
        )
        # The run itself saves every epoch; a path is only where a resumed fit takes up its state.
        path = run.checkpoint if options.resume else None
        training = True
        fit_experiment(
            config, trainer, data, watchers, resume=path is not None, checkpoint_path=path
        )
    except (BatchError, KeyboardInterrupt) as error:
        print(
            f"error: {str(error) or 'interrupted'}; go on with --resume {run.id if run else ''}",
            file=sys.stderr,
        )
        return 1
    except (
        CheckpointError,
        DataUnavailable,
        ImportError,
        OSError,
        RunError,
        TypeError,
        ValueError,
    ) as error:
        # A disk that is full in the middle of a training is no wrong call.
        late = (
            training and isinstance(error, OSError) and run is not None and run.checkpoint.exists()
        )
        print(
            f"error: {error}" + (f"; go on with --resume {run.id}" if late and run else ""),
            file=sys.stderr,
        )
        return 1 if late else 2
    print(
        f"stored in {run.folder}; evaluate it with: python -m eqprop_lab evaluate {run.checkpoint}"
    )
    return 0
