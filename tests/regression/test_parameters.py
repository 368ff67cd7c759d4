from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eqprop_lab.regression.parameters import (
    Parameter,
    ParameterError,
    check_parameters,
    coerce,
    load_parameters,
    matches,
    read_parameters,
)
from tests.regression.tiny import code, notebook

DECLARED = read_parameters(
    notebook(parameters='seed: int = 0  # s\nrate: float = 0.5  # r\nname: str = "a"  # n')
)


def test_reads_names_types_defaults_and_comments() -> None:
    declared = read_parameters(notebook(), "tiny")
    assert list(declared) == ["seed", "profile", "rate"]
    assert declared["rate"] == Parameter("rate", "float", 0.5, "learning rate")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("seed = 0", "name: type = literal"),
        ("seed: int = 1 + x", "not a plain literal"),
        ("seed: int = 0.5", "not of type int"),
        ("seed: int =", "not Python"),
        ("seed: Tensor = 0", "Tensor"),
        ("seed: int = 0\nseed: int = 1", "sets 'seed' twice"),
    ],
)
def test_refuses_cells_papermill_cannot_set(source: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        read_parameters(notebook(parameters=source), "tiny")


@pytest.mark.parametrize("count", [0, 2])
def test_needs_exactly_one_parameters_cell(count: int) -> None:
    nb = notebook()
    nb.cells = nb.cells[:1] + [code("seed: int = 0", "parameters") for _ in range(count)]
    with pytest.raises(ParameterError, match=f"found {count}"):
        read_parameters(nb, "tiny")


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, "int", True),
        (True, "int", False),
        (True, "bool", True),
        (1, "float", True),
        ("1", "float", False),
        (None, "float | None", True),
        ([1, 2], "list[int]", True),
        ([1, 2.5], "list[int]", False),
        ({"a": 1}, "dict[str, int]", True),
        ({"a": 1.5}, "dict[str, int]", False),
        ({1: 1}, "dict[str, int]", False),
        ((1, 2.5), "tuple[int, float]", True),
        ((1, 2.5, 3), "tuple[int, float]", False),
        ((1, 2), "tuple[int, ...]", True),
        ((1, "2"), "tuple[int, ...]", False),
    ],
)
def test_matches_plain_types_unions_and_lists(value: Any, annotation: str, expected: bool) -> None:
    assert matches(value, annotation) is expected


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ParameterError, match="tiny: unknown parameter 'sed'; did you mean 'seed'"):
        check_parameters(DECLARED, {"sed": 1}, "tiny")
    with pytest.raises(ParameterError, match="known: seed, rate, name"):
        check_parameters(DECLARED, {"zzz": 1}, "tiny")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "3", 3),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("name", "3", "3"),
        ("seed", 4, 4),
    ],
)
def test_text_is_read_as_the_annotated_type(name: str, value: Any, expected: Any) -> None:
    result = check_parameters(DECLARED, {name: value}, "tiny")[name]
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", "0.5"), ("seed", "abc"), ("seed", True), ("rate", "fast"), ("name", 3)],
)
def test_wrong_types_name_parameter_value_and_type(name: str, value: Any) -> None:
    with pytest.raises(
        ParameterError, match=rf"'{name}' takes {DECLARED[name].annotation} .*got {value!r}"
    ):
        check_parameters(DECLARED, {name: value}, "tiny")


def test_switches_and_infinities() -> None:
    assert coerce(Parameter("on", "bool", False), "true", "tiny") is True
    with pytest.raises(ParameterError, match="finite"):
        coerce(Parameter("rate", "float", 0.5), float("inf"), "tiny")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("list[float]", [0.1, float("nan")]),
        ("list[float]", "[1.0, 1e999]"),
        ("list[list[float]]", [[-float("inf")]]),
        ("dict[str, float]", {"a": float("nan")}),
        ("tuple[float, ...]", "(1e999,)"),
        ("float", 10**400),
        ("int", "9" * 400),
        ("float | None", float("nan")),
    ],
)
def test_no_number_that_is_not_finite_gets_in_at_any_depth(annotation: str, value: Any) -> None:
    with pytest.raises(ParameterError, match="tiny: parameter 'x' must be finite, got .{1,60}$"):
        coerce(Parameter("x", annotation, None), value, "tiny")


def test_a_huge_value_is_shown_in_part() -> None:
    with pytest.raises(ParameterError) as caught:
        coerce(Parameter("x", "int", 0), list(range(100_000)), "tiny")
    assert len(str(caught.value)) < 300
    with pytest.raises(ParameterError, match="takes int"):
        coerce(Parameter("x", "int", 0), "(" * 100_000, "tiny")


def test_yaml_is_loaded_safely_and_its_text_numbers_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("rate: 1e-3\nseed: 2\n")
    assert load_parameters(file)["rate"] == "1e-3"
    assert check_parameters(DECLARED, load_parameters(file), "tiny") == {"rate": 1e-3, "seed": 2}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x: yes", "yes"), ("x: Off", "Off"), ("x: 2024-01-02", "2024-01-02"), ("x: true", True),
        ("x: 1e-3", "1e-3"), ("x: 12", 12), ("x: -3", -3), ("x: 0", 0), ("x: '010'", "010"),
        ("no: 1", None), ("x: null", None),
    ],
)  # fmt: skip
def test_plain_words_of_yaml_stay_what_they_look_like(
    tmp_path: Path, text: str, wanted: Any
) -> None:
    (tmp_path / "p.yaml").write_text(text)
    content = load_parameters(tmp_path / "p.yaml")
    assert content == ({"no": 1} if text == "no: 1" else {"x": wanted})
    assert type(next(iter(content.values()))) is type(1 if text == "no: 1" else wanted)


BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: 1\nrate: 2\nseed: 3", "line 1: key 'seed' is given twice"),
        ("rates: [1]\nrates: [2]", "'rates' is given twice"),
        ("x: {a: 1, a: 2}", "line 1: key 'a' is given twice"),
        ("seed: 010", "line 1: 010 is no plain decimal number"),
        ("a: 1\nseed: 1:30", "line 2: 1:30 is no plain"),
        ("rate: 1:30.5", "1:30.5 is no plain"),
        ("seed: 0x10", "0x10 is no plain"),
        ("seed: 1_000", "1_000 is no plain"),
        ("seeds: [1, 0b11]", "0b11 is no plain"),
        (BOMB, r"line 2: aliases .\*name. are not read"),
        ("[" * 100_000, "line 1: nested deeper than 20"),
        ("a: 1\n---\na: 2", "but found another document"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_yaml_that_says_a_thing_twice_or_in_riddles_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(
        ParameterError, match=f"--parameters p.yaml: not plain YAML: .*{reason}"
    ) as caught:
        load_parameters(tmp_path / "p.yaml")
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes("name: caf\u00e9".encode("latin-1"))
    with pytest.raises(ParameterError, match="--parameters p.yaml: not plain YAML: 'utf-8' codec"):
        load_parameters(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 1\n", "expected lines"),
        ("a: [", "not plain YAML"),
        ("a: !!python/object:os.system x", "not plain YAML"),
    ],
)
def test_other_yaml_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ParameterError, match=reason):
        load_parameters(tmp_path / "p.yaml")
    with pytest.raises(ParameterError, match="No such file"):
        load_parameters(tmp_path / "absent.yaml")
