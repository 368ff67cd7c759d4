"""Sections of an experiment: the model gets its sizes from the data, augmentation its default.

data: {augmentation: false}                       no augmentation, also where it is left out
data: {augmentation: true}                        the usual one of that set, which it is registered
                                                  with: shift 1 for digits, MNIST and its kin,
                                                  crop 4 for SVHN, crop 4 and flip for photographs
data: {augmentation: {shift: 1, cutout: 8}}       arguments of `Augmentation`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqprop_lab.datasets.augmentation import Augmentation
from eqprop_lab.datasets.registry import SOURCES
from eqprop_lab.experiments.data import find_facts
from eqprop_lab.experiments.presets import get_model_config, preset_model
from eqprop_lab.models.registry import model_registry
from eqprop_lab.validation import a_seed, named_arguments, one_of, switch

# Arguments of models that the data decide, and where `find_facts` has them.
SIZES = {
    "input_dim": "input_dim",
    "output_dim": "output_dim",
    "num_classes": "output_dim",
    "input_channels": "channels",
    "in_channels": "channels",
    "image_size": "size",
    "vocab_size": "vocab_size",
}
# Those that a text leaves alone: a token model without classes reads tokens out.
OF_LABELS = ("num_classes",)
# Those in which a preset yields to a text.
OF_TEXT = ("vocab_size", "max_seq_len")


def read_experiment(section: dict[str, Any]) -> dict[str, Any]:
    """The section `experiment` with everything filled in. Raises ValueError naming the key."""
    filled = {
        "name": "experiment",
        "seed": 0,
        "use_wandb": False,
        "use_tensorboard": False,
        "project": "eqprop_lab",
    }
    filled |= section
    filled["seed"] = a_seed("experiment.seed", filled["seed"])
    for key in ("name", "project"):
        if not isinstance(filled[key], str) or not filled[key]:
            raise ValueError(f"experiment.{key} must be a non-empty text, got {filled[key]!r}")
    for key in ("use_wandb", "use_tensorboard"):
        filled[key] = switch(f"experiment.{key}", filled[key])
    return filled


def read_augmentation(value: object, name: str) -> Augmentation | None:
    """What `data.augmentation` asks for; None: nothing.

    Raises TypeError, ValueError, before any image is read.
    """
    if value is None or value is False:
        return None
    source = SOURCES.get(name)
    if source is None or (source.shape is not None and len(source.shape) != 3):
        raise ValueError(
            f"data.augmentation must be false for {name}, which has no images; got {value!r}"
        )
    if value is not True and not isinstance(value, Mapping):
        raise TypeError(
            f"data.augmentation must be false, true or a mapping like {{shift: 1}}, got {value!r}"
        )
    try:
        chosen = source.augmentation if value is True else Augmentation.from_config(value)
        if chosen is None:
            raise ValueError(
                f"{name} is registered without a usual one: give a mapping like {{shift: 1}}"
            )
        if source.shape is not None:
            chosen.check(source.shape)
    except (TypeError, ValueError) as error:
        raise type(error)(f"data.augmentation: {error}") from error
    return chosen or None


def read_model(
    section: Mapping[str, Any], data: Mapping[str, Any], seed: int
) -> tuple[str, dict[str, Any]]:
    """(registered name, complete arguments) of the section `model` for {"name": data set, options}.

    A folder of images, a text, or a set that was registered without its sizes, is looked at only if
    an argument is to follow from it. Raises TypeError, ValueError; DataUnavailable for a missing
    folder or text.
    """
    given = section.get("params") or {}
    if not isinstance(given, Mapping):
        raise TypeError(f"model.params must be a mapping of arguments, got {given!r}")
    if ("name" in section) == ("preset" in section):
        raise ValueError(
            f"section 'model' needs either a 'name' or a 'preset', got {sorted(section)}"
        )
    params: dict[str, Any] = dict(given)
    text = data["name"] not in SOURCES
    if "preset" in section:
        name = preset_model(section["preset"])
        params = get_model_config(section["preset"], **params)
        params = {k: v for k, v in params.items() if not text or k in given or k not in OF_TEXT}
    else:
        name = section["name"]
    one_of("model.name", name, model_registry.list_models())
    # one that takes any arguments, too, has those that it names filled in
    known = named_arguments(model_registry.factory(name))
    if model_registry.parameters(name) and ("vocab_size" in known) != text:
        raise ValueError(
            f"a {name} takes {'no ' if text else ''}tokens, and {data['name']} is "
            f"{'a' if text else 'no'} text"
        )
    if "seed" in known:
        params.setdefault("seed", seed)
    open_to = [key for key in SIZES if not (text and key in OF_LABELS)]
    wanted = [key for key in open_to if key in known and params.get(key) is None]
    facts = find_facts(data, bool(wanted))
    for key in wanted:
        if facts.get(SIZES[key]) is None:
            raise ValueError(f"a {name} takes images, {facts['name']} has none")
        params[key] = facts[SIZES[key]]
    if text and "max_seq_len" in known and params.get("max_seq_len") is None:
        params["max_seq_len"] = facts["seq_len"]
    check_sizes(params, facts)
    model_registry.check(name, params)
    return name, params


def check_sizes(params: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise ValueError if an argument of a model contradicts what is known of its data set."""
    for key, fact in SIZES.items():
        has = facts.get(fact)
        asked = params.get(key)
        if key in params and has is not None and _pair(key, asked) != _pair(key, has):
            raise ValueError(f"model.params.{key} is {asked}, but {facts['name']} has {has}")
    longest, length = params.get("max_seq_len"), facts.get("seq_len")
    if length is not None and isinstance(longest, int) and longest < length:
        raise ValueError(
            f"model.params.max_seq_len is {longest}, but data.seq_len is {length}: windows must "
            "fit into the model"
        )


def _pair(key: str, value: Any) -> Any:
    square = key == "image_size" and isinstance(value, int)
    return [value, value] if square else list(value) if isinstance(value, tuple) else value
