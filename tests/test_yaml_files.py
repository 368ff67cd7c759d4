"""YAML that would never end, or mean something else than it seems, is refused at once; errors name
the file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eqprop_lab.experiments.config import ConfigError, load_config
from eqprop_lab.experiments.runs import Run, RunError
from eqprop_lab.yaml_files import DEEPEST, MOST, YamlError, parse_yaml, read_yaml

LAUGHS = "\n".join(
    [
        "a0: &a0 [lol, lol, lol]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)),
    ]
)
REFUSED = {
    "alias bomb": (LAUGHS, "values, aliases followed"),
    "bomb of mappings": (
        LAUGHS.replace("[", "{k: [").replace("]", "]}"),
        "values, aliases followed",
    ),
    "merged bomb": (
        "a: &a {k: 1}\nb: {<<: [" + ", ".join(["*a"] * MOST) + "]}",
        "values, aliases followed",
    ),
    "long": ("[" + "1, " * (MOST + 1) + "]", "values, aliases followed"),
    "deep lists": ("[" * 100_000, "nested deeper"),
    "deep mappings": ("{a: " * 100_000, "nested deeper"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(500)), "nested deeper"),
    "endless": ("a: &a [*a]", "an alias of what it is part of"),
    "endless mapping": ("a: &a {b: {c: *a}}", "an alias of what it is part of"),
    "twice": ("model: {}\nmodel: {}", "key 'model' is given twice"),
    "no such day": ("a: 2021-13-45", "month must be"),
    "huge number": ("a: " + "1" * 5000, "digits"),
    "objects": ("!!python/object/apply:os.system ['true']", "constructor"),
    "unknown alias": ("a: *b", "undefined alias"),
    "control character": ("a: \x07", "not allowed"),
    "octal": ("seed: 010", "010 is no plain decimal number"),
    "minutes": ("a:\n  hidden_dim: 1:30", "1:30 is no plain decimal number"),
    "seconds": ("rates: [0.1, 1:30.5]", "1:30.5 is no plain number"),
    "octal in an alias": ("a: &a [-07]\nb: *a", "-07 is no plain decimal number"),
    "too large": ("# " + "x" * 2**20, "too large"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_ends_at_once_and_names_the_file(kind: str, tmp_path: Path) -> None:
    text, message = REFUSED[kind]
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(YamlError, match=message) as caught:
        parse_yaml(text, "config.yaml")
    assert "config.yaml" in str(caught.value) and len(str(caught.value)) < 1000
    with pytest.raises(ConfigError, match=message) as config_error:
        load_config(file)
    assert str(file) in str(config_error.value) and len(str(config_error.value)) < 1000
    with pytest.raises(RunError, match="cannot read config.yaml"):
        _ = Run(tmp_path).config


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(YamlError, match=r"config\.yaml is not text in UTF-8"):
        read_yaml(file)
    with pytest.raises(ConfigError, match=r"config\.yaml is not text in UTF-8"):
        load_config(file)


def test_plain_yaml_is_read_as_it_was_meant() -> None:
    text = "a: &a {rate: 1e-3, sizes: [1, 2]}\nb: *a\nc: {<<: *a, rate: 2}\n"
    assert parse_yaml(text, "x") == {
        "a": {"rate": 0.001, "sizes": [1, 2]},
        "b": {"rate": 0.001, "sizes": [1, 2]},
        "c": {"rate": 2, "sizes": [1, 2]},
    }
    assert parse_yaml("[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1), "x") is not None
