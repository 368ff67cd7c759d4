"""A configuration holds together, or its error names the field; its file says the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from eqprop_lab.lut import REGISTRY, ModelConfig
from eqprop_lab.lut.config import STRUCTURAL
from eqprop_lab.lut.runtime import EVAL_MODES, FORWARD_MODES, STABILISATIONS, Runtime, read_runtime
from tests.lut.pieces import config

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.binary(max_size=5),
)
NOT_POSITIVE = st.one_of(
    st.none(), st.booleans(), st.integers(max_value=0), st.floats(), st.text(), st.just([3])
)
WRONG_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model_type": ANYTHING.filter(lambda v: v not in REGISTRY.names("model")),
    "layer_type": ANYTHING.filter(lambda v: v not in REGISTRY.names("layer")),
    "node_type": ANYTHING.filter(lambda v: v not in REGISTRY.names("node")),
    "encoder_config": ANYTHING,
    "node_input_dim": st.one_of(NOT_POSITIVE, st.integers(min_value=9)),
    "layer_widths": st.one_of(
        ANYTHING.filter(lambda v: not isinstance(v, list)),
        st.lists(NOT_POSITIVE, max_size=3),
        st.integers(1, 500).filter(lambda n: n % 3).map(lambda n: [20, n]),
    ),
    "num_classes": st.one_of(NOT_POSITIVE, st.integers(min_value=13)),
    "input_size": NOT_POSITIVE.filter(lambda v: v is not None),
    "seed": st.one_of(
        st.none(), st.booleans(), st.floats(), st.integers(max_value=-1), st.integers(2**32)
    ),
    "pretrained": ANYTHING.filter(lambda v: not isinstance(v, bool)),
    "pretrained_name": ANYTHING.filter(lambda v: v is not None and not (isinstance(v, str) and v)),
    "dataset": ANYTHING.filter(lambda v: v is not None and not (isinstance(v, str) and v)),
    "runtime": ANYTHING.filter(lambda v: v != {}),
    "metadata": ANYTHING.filter(lambda v: not isinstance(v, dict)),
    "layer_config": ANYTHING.filter(lambda v: v != {}),
    "node_config": ANYTHING.filter(lambda v: v != {}),
    "model_config": ANYTHING.filter(lambda v: v != {}),
}


def test_every_field_has_wrong_values() -> None:
    assert config().to_dict().keys() == WRONG_FIELDS.keys()


@pytest.mark.parametrize("name", WRONG_FIELDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_wrong_field_is_named(name: str, data: st.DataObject) -> None:
    value = data.draw(WRONG_FIELDS[name])
    with pytest.raises(ValueError) as caught:
        config(**{name: value})
    text = str(caught.value)
    # widths and classes do not go together: the one that is at fault cannot be known
    together = ("layer_widths", "num_classes")
    named = together if name in together else (name,)
    assert any(part in text for part in named), text
    assert len(text) < 900


WRONG_RUNTIME: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.one_of(st.floats(max_value=0), st.just(math.nan), st.text(), st.none()),
    "eval_mode": ANYTHING.filter(lambda v: v not in EVAL_MODES),
    "forward_mode": ANYTHING.filter(lambda v: v not in FORWARD_MODES),
    "flip_probability": st.one_of(st.floats(min_value=1, exclude_min=True), st.just(-0.1)),
    "eval_flip_probability": st.one_of(st.floats(max_value=0, exclude_max=True), st.booleans()),
    "dropout": st.one_of(st.floats(min_value=1, exclude_min=True), st.text()),
    "grad_stabilization": ANYTHING.filter(lambda v: v not in STABILISATIONS),
    "grad_target_std": st.floats(max_value=0),
    "grad_subtract_mean": ANYTHING.filter(lambda v: not isinstance(v, bool)),
    "grad_epsilon": st.floats(max_value=0),
    "output_tau": st.one_of(st.floats(max_value=0), st.text()),
    "head_padding": ANYTHING.filter(lambda v: not isinstance(v, bool)),
    "sampling_seed": st.one_of(st.floats(), st.integers(max_value=-1)),
    "init_fn": ANYTHING.filter(lambda v: v not in [None, *REGISTRY.names("initializer")]),
    "init_kwargs": ANYTHING.filter(lambda v: v != {}),
    "regularizers": ANYTHING.filter(lambda v: v != {}),
    "init_clarity": st.floats(),
    "temprature": ANYTHING,
}


def test_every_runtime_parameter_has_wrong_values() -> None:
    assert WRONG_RUNTIME.keys() - {"init_clarity", "temprature"} == vars(Runtime()).keys()


@pytest.mark.parametrize("name", WRONG_RUNTIME)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_wrong_runtime_parameter_is_named(name: str, data: st.DataObject) -> None:
    with pytest.raises(ValueError) as caught:
        config(runtime={name: data.draw(WRONG_RUNTIME[name])})
    assert name in str(caught.value) or (name == "init_kwargs" and "init_" in str(caught.value))


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ({"temprature": 1.0}, "did you mean 'temperature'"),
        ({"init_fn": "normal", "init_std": -1.0}, "std must be"),
        ({"init_fn": "normal", "init_clarity": 1.0}, "key of init_kwargs of normal"),
        ({"init_fn": "normal", "init_std": 1.0, "init_kwargs": {"std": 2.0}}, "given twice"),
        ({"init_std": 1.0}, "init_std needs an init_fn"),
        ({"regularizers": {"entropi": 0.1}}, "did you mean 'entropy'"),
        ({"regularizers": {"entropy": {"weigth": 0.1}}}, "regularizers.entropy must have a weight"),
        ({"regularizers": {"entropy": {"weight": 0.1, "p": 2}}}, "regularizers.entropy"),
        ({"regularizers": {"entropy": -0.1}}, "regularizers.entropy.weight"),
        ({"dropout": 0.1, "forward_mode": "hard"}, "dropout must be 0"),
    ],
)
def test_what_else_a_runtime_section_can_say_wrong(runtime: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(runtime=runtime)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_config": {"num_bits": 3}}, "encoder_config must have a name"),
        ({"encoder_config": {"name": "thermometre"}}, "did you mean 'thermometer'"),
        ({"encoder_config": {"name": "thermometer", "bits": 3}}, "key of encoder_config"),
        ({"encoder_config": {"name": "thermometer", "num_bits": 0}}, "encoder_config: num_bits"),
        ({"node_type": "polylut", "node_config": {"degree": 0}}, "node_config: degree"),
        ({"node_input_dim": 9}, "2\\^n"),
        ({"layer_widths": [20, 13]}, "head_padding"),
        ({"layer_widths": [20, 2]}, "at least num_classes"),
        ({"runtime": {"eval_mode": "samplig"}}, "did you mean 'sampling'"),
    ],
)
def test_what_an_error_says(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**changes)


FULL = {
    "runtime": {
        "temperature": 0.5,
        "init_fn": "residual",
        "init_clarity": 2.0,
        "regularizers": {"entropy": {"weight": 1e-3}, "clarity": 0.1},
    },
    "pretrained": True,
    "pretrained_name": "mine",
    "dataset": "digits",
    "metadata": {"accuracy": 0.97, "notes": ["a", "b"], "text": "Züge: 1e-3"},
    "encoder_config": {"name": "distributive_thermometer", "num_bits": 2, "clip_inputs": True},
    "node_type": "polylut",
    "node_config": {"degree": 3},
}


@pytest.mark.parametrize("changes", [{}, FULL], ids=["least", "all"])
def test_yaml_and_dict_round_trips_are_exact(changes: dict[str, Any], tmp_path: Path) -> None:
    made = config(**changes)
    path = made.to_yaml(tmp_path / "deep" / "one.yaml")
    assert ModelConfig.from_yaml(path) == made
    assert ModelConfig.from_dict(made.to_dict()) == made
    assert made.save_to_pretrained("two", tmp_path) == tmp_path / "feedforward" / "two.yaml"
    assert list(yaml.safe_load(path.read_text()))[:7] == list(STRUCTURAL)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Configuration file not found: .*none.yaml"):
        ModelConfig.from_yaml(tmp_path / "none.yaml")
    path = tmp_path / "one.yaml"
    for missing in STRUCTURAL:
        values = config().to_dict()
        del values[missing]
        path.write_text(yaml.safe_dump(values))
        with pytest.raises(ValueError, match=f"Missing required field in config: {missing}"):
            ModelConfig.from_yaml(path)
    for text, words in (
        ("model_type: [", "not valid YAML"),
        ("3", "must be a mapping"),
        ("model_typ: x", "did you mean 'model_type'"),
        ("seed: 1\nseed: 2", "given twice"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words) as caught:
            ModelConfig.from_yaml(path)
        assert "one.yaml" in str(caught.value)


def test_nothing_is_shared_with_what_was_given() -> None:
    widths, runtime = [20, 12], {"regularizers": {"entropy": {"weight": 0.1}}}
    made = config(layer_widths=widths, runtime=runtime)
    widths.append(3)
    runtime["regularizers"]["entropy"]["weight"] = 9.0
    made.to_dict()["layer_widths"].append(4)
    assert made.layer_widths == [20, 12]
    assert made.runtime["regularizers"]["entropy"]["weight"] == 0.1


def test_a_field_set_later_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    made = config()
    made.num_classes = 5
    with pytest.raises(ValueError, match="num_classes=5"):
        made.validate()
    with pytest.raises(ValueError, match="num_classes=5"):
        made.to_yaml(tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


def test_weights_fit_where_all_structure_is_equal() -> None:
    made = config()
    assert made.is_compatible_with_weights(config(runtime={"temperature": 3.0}, seed=9))
    for name, value in {
        "node_type": "warp",
        "node_input_dim": 5,
        "layer_widths": [20, 15],
        "num_classes": 4,
        "input_size": 13,
        "encoder_config": {"name": "thermometer", "num_bits": 4},
    }.items():
        assert not made.is_compatible_with_weights(config(**{name: value}))


def test_depth_and_parameters() -> None:
    assert config().get_layer_depth() == 2
    assert config().get_total_params_estimate() == 32 * 16
    assert config(node_type="linear_lut").get_total_params_estimate() == 32 * 5


def test_runtime_defaults_are_those_of_the_class() -> None:
    assert read_runtime({}) == Runtime()
    assert read_runtime({"init_fn": "normal", "init_std": 0.1}).init_kwargs == {"std": 0.1}
    both = read_runtime({"regularizers": {"l1": 0.5, "functional": {"weight": 1, "exponent": 3}}})
    assert both.regularizers == {"l1": (0.5, {}), "functional": (1.0, {"exponent": 3})}
