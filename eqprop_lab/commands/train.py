"""`python -m eqprop_lab train CONFIG`: train what a YAML file describes and keep it as a run.

CONFIG is a path or the name of a recipe of the package. The run goes to `runs/<id>` with its
config, versions, curves and a checkpoint after every epoch; an interrupted one goes on with
`--resume ID`. A long training in short calls is the same command again and again:

    python -m eqprop_lab train cifar10_conv --device cuda --minutes 9 --resume

begins the run of the config, or goes on with it where the last call stopped. Exit status: 0 the
training is done, 3 it is not and the time is up, 1 it failed on the way, 2 it cannot be begun.

On several processes, each with its share of every batch, as one training:

    torchrun --standalone --nproc-per-node 2 --max-restarts 3 -m eqprop_lab train digits_looped_mlp

When one of them dies, torchrun starts them again, and the run goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.experiments.config import (
    ExperimentConfig,
    build_experiment,
    fit_experiment,
    list_recipes,
    load_config,
    on_device,
    parse_config,
)
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.resuming import take_up
from eqprop_lab.experiments.runs import Run, RunStore
from eqprop_lab.training import BatchError, Budget, EqPropTrainer
from eqprop_lab.training.distributed import DistributedTrainer
from eqprop_lab.training.loggers import Logger, TensorBoardLogger, WandbLogger
from eqprop_lab.training.process_group import Group, launched, process_group, restarts
from eqprop_lab.training.progress import show


def loggers(experiment: dict[str, Any], run: Run) -> list[Logger]:
    """What `use_wandb` and `use_tensorboard` ask for, writing into the folder of the run.

    Raises ImportError.
    """
    found: list[Logger] = []
    if experiment["use_wandb"]:
        found.append(
            WandbLogger(experiment["project"], folder=run.folder / "wandb", name=experiment["name"])
        )
    if experiment["use_tensorboard"]:
        found.append(TensorBoardLogger(run.folder / "tensorboard"))
    return found


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    found = make_parser("train", __doc__, "--runs", "--device")
    add = found.add_argument
    add("config", nargs="?", help=f"a YAML file, or one of: {', '.join(list_recipes())}")
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="ID",
        help="go on with this run, with its own config; with a CONFIG and no ID: with its last run",
    )
    add("--minutes", type=float, help="stop before so many have passed, to go on later")
    return found


def choose(options: argparse.Namespace, store: RunStore) -> tuple[ExperimentConfig, Run | None]:
    """What is to be trained, and the run that goes on; None for a new one."""
    if options.resume:
        run = store.get(options.resume)
        return parse_config(on_device(run.config, options.device)), run
    config = load_config(options.config, options.device)
    again = options.resume is not None or restarts() > 0
    return config, take_up(store, config.as_dict()) if again else None


def joined(config: ExperimentConfig, minutes: float | None) -> AbstractContextManager[Group | None]:
    """The processes that torchrun has started, or none. Raises ValueError."""
    if not launched():
        return nullcontext()
    if minutes is not None:
        raise ValueError(
            "--minutes is for a single process: torchrun takes the exit status 3 of one whose time "
            "is up for a failure"
        )
    device = str(config.trainer.get("device") or "cpu")
    return process_group(device.partition(":")[0])


def watchers(experiment: dict[str, Any], run: Run, budget: Budget | None) -> list[Any]:
    """Who follows the training, on the process that prints and writes."""
    return [show, *loggers(experiment, run), run, *([budget] if budget else [])]


def kind(group: Group | None) -> Callable[..., EqPropTrainer]:
    """What makes the trainer of a config."""
    return EqPropTrainer if group is None else partial(DistributedTrainer, group=group)


def _go_on(run: Run | None) -> str:
    return f"; go on with --resume {run.id}" if run else ""


def main(argv: Sequence[str]) -> int:
    """0 when the training is done, 3 when the time is up before.

    2 for a wrong call, config or data, 1 when a batch fails or the disk is full.
    """
    arguments = parser()
    options = arguments.parse_args(argv)
    if (options.config is None) != bool(options.resume):
        arguments.error("give either a CONFIG or --resume ID")
    run = None
    training = False
    try:
        # the clock starts before data is read
        budget = None if options.minutes is None else Budget(options.minutes)
        store = RunStore(options.runs)
        config, run = choose(options, store)
        with joined(config, options.minutes) as group:
            trainer, data = build_experiment(config, kind(group))
            if group is not None:
                group.agree({"config": config.as_dict(), "run": run and run.id})
            # The run itself saves every epoch; a path is only where a resumed fit takes up.
            goes_on = {} if run is None else {"resume": True, "checkpoint_path": run.checkpoint}
            told = []
            first = group is None or group.first
            if first:
                run = store.create(config.as_dict()) if run is None else run
                print(
                    f"run {run.id}: {config.model} on {data.name}, {len(data.train)} {data.unit}, "
                    f"{config.epochs} epochs{'' if group is None else f', {group.ranks} processes'}"
                )
                told = watchers(config.experiment, run, budget)
            training = True
            fit_experiment(config, trainer, data, told, **goes_on)
    except (BatchError, KeyboardInterrupt) as error:
        refuse(f"{str(error) or 'interrupted'}{_go_on(run)}")
        return 1
    except USERS_ERRORS as error:
        # A disk that is full in the middle of a training is no wrong call.
        late = (
            training and isinstance(error, OSError) and run is not None and run.checkpoint.exists()
        )
        refused = refuse(f"{error}{_go_on(run) if late else ''}")
        return 1 if late else refused
    if run is None or not first:
        return 0
    left = config.epochs - trainer.history.epochs
    if budget is not None and budget.up and left > 0:
        print(
            f"the time is up: {left} of {config.epochs} epochs are left, about "
            f"{left * budget.mean / 60:.1f} minutes{_go_on(run)}"
        )
        return 3
    print(
        f"stored in {run.folder}; evaluate it with: python -m eqprop_lab evaluate {run.checkpoint}"
    )
    return 0
