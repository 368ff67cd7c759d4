"""The explorers of LUT networks: one table by its definition, layers hardened one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqprop_lab.lut import BaseLUTModel, ModelConfig, build_model
from eqprop_lab.notebook.explorers.discretisation_gap import BINS, TEMPERATURES, DiscretisationGap
from eqprop_lab.notebook.explorers.one_lut import FUNCTIONS, GRID, PINS, OneLUT
from eqprop_lab.notebook.style import PALETTE, new_figure


@pytest.fixture(scope="module")
def one_lut() -> OneLUT:
    return OneLUT()


def by_definition(table: np.ndarray, pins: Any) -> float:
    """sum_a p_a prod_j x_j^(a_j) (1 - x_j)^(1 - a_j), bit strings of Python."""
    total = 0.0
    for bits in itertools.product((0, 1), repeat=PINS):
        chance = np.prod([x if bit else 1 - x for x, bit in zip(pins, bits, strict=True)])
        total += table[int("".join(map(str, reversed(bits))), 2)] * chance
    return float(total)


@pytest.mark.parametrize("function", ["multiplexer", "random", "trained on digits"])
def test_output_surface_and_slopes_are_those_of_the_definition(function: str) -> None:
    pins = [0.3, 0.9, 0.6, 0.15, 0.5, 1.0]
    data = OneLUT(
        function=function, pair="x2 and x3", **{f"x{j}": x for j, x in enumerate(pins)}
    ).data
    assert data.value == pytest.approx(by_definition(data.table, pins))
    corner = [*pins[:2], 1.0, 0.0, *pins[4:]]  # right and down
    assert data.surface[0, -1] == pytest.approx(by_definition(data.table, corner))
    half = [*pins[:2], 0.0, 0.5, *pins[4:]]
    assert data.surface[GRID // 2, 0] == pytest.approx(by_definition(data.table, half))
    for pin in range(PINS):
        high, low = ([*pins[:pin], end, *pins[pin + 1 :]] for end in (1.0, 0.0))
        apart = by_definition(data.table, high) - by_definition(data.table, low)
        assert data.slopes[pin] == pytest.approx(apart)
    assert data.weights.sum() == pytest.approx(1)
    assert data.weights @ data.table == pytest.approx(data.value)


def test_the_functions_are_what_they_are_called() -> None:
    hard = {name: (logits() >= 0).tolist() for name, logits in FUNCTIONS.items()}
    for a in range(2**PINS):
        bits = [a >> j & 1 for j in range(PINS)]
        assert hard["multiplexer"][a] == bits[2 + bits[0] + 2 * bits[1]]
        assert hard["parity"][a] == sum(bits) % 2
        assert hard["majority"][a] == (sum(bits) > 3)
        assert hard["wire from x0"][a] == bits[0]
    shipped = build_model("digits_small").truth_tables()[-1][0].tolist()
    assert hard["trained on digits"] == shipped


def test_temperature_pales_the_table_and_never_the_hard_output(one_lut: OneLUT) -> None:
    one_lut.reset()
    clear = []
    for temperature in (0.1, 1.0, 10.0):
        one_lut.set(temperature=temperature, function="random", x0=0.2, x1=0.9)
        clear.append((float(np.abs(one_lut.data.table - 0.5).mean()), one_lut.data.bit))
    assert clear[0][0] > clear[1][0] > clear[2][0] > 0
    assert len({bit for _, bit in clear}) == 1


@pytest.mark.parametrize(
    "change", [{"function": "parity"}, {"temperature": 3.0}, {"pair": "x4 and x5"}, {"x2": 0.1}]
)
def test_every_control_of_one_table_changes_picture_and_sentence(
    one_lut: OneLUT, change: dict[str, Any]
) -> None:
    one_lut.reset()
    png, alt = one_lut.png, one_lut.alt
    one_lut.set(**change)
    assert one_lut.png != png and one_lut.alt != alt and one_lut.errors == []
    assert f"{one_lut.data.value:.2f} where the inputs are" in one_lut.alt


def network(seed: int, widths: tuple[int, ...] = (40, 30, 20), spread: float = 1.0) -> BaseLUTModel:
    config = ModelConfig(
        "feedforward",
        "random",
        "probabilistic",
        {"name": "thermometer", "num_bits": 3},
        3,
        list(widths),
        2,
        runtime={"init_fn": "normal", "init_std": spread},
        seed=seed,
    )
    model = build_model(config)
    model.fit_encoder(SEEN)  # type: ignore[operator]
    return model.eval()


SEEN = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
CLASSES = torch.randint(2, (60,), generator=torch.Generator().manual_seed(1))
NETWORKS = {
    (start, rate): network(seed, spread=spread)
    for seed, ((start, spread), rate) in enumerate(
        itertools.product({"wide": 3.0, "narrow": 0.3}.items(), (0.02, 0.1))
    )
}


@pytest.fixture(scope="module")
def gap() -> DiscretisationGap:
    return DiscretisationGap(NETWORKS, SEEN, CLASSES)


def accuracy(model: BaseLUTModel, **overrides: Any) -> float:
    """Of a copy with other runtime parameters."""
    other = build_model(model.get_config(), overrides=overrides)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        return float((other.eval()(SEEN).argmax(1) == CLASSES).double().mean())


def test_soft_and_hard_are_those_of_the_modes(gap: DiscretisationGap) -> None:
    gap.set(start="narrow", rate=0.1, temperature=2.0)
    model = NETWORKS["narrow", 0.1]
    soft = {"eval_mode": "expectation", "temperature": 2.0}
    assert gap.data.soft == gap.data.first[0] == accuracy(model, **soft)
    assert gap.data.hard == gap.data.first[-1] == accuracy(model)
    wanted = [accuracy(model, eval_mode="expectation", temperature=t) for t in TEMPERATURES]
    np.testing.assert_array_equal(gap.data.sweep, wanted)
    # a hard layer reads bits, which makes the layer below it hard as well
    assert gap.data.alone[:2].tolist() == gap.data.first[1:3].tolist()


def test_the_hard_network_has_no_temperature(gap: DiscretisationGap) -> None:
    gap.reset()
    found = []
    for temperature in (0.1, 1.0, 10.0):
        gap.set(temperature=temperature)
        found.append((gap.data.hard, gap.data.entries[0, BINS // 2 - 1 : BINS // 2 + 1].sum()))
    assert len({hard for hard, _ in found}) == 1
    assert found[0][1] < found[1][1] < found[2][1]


def test_entries_are_counted_layer_by_layer(gap: DiscretisationGap) -> None:
    gap.reset()
    np.testing.assert_allclose(gap.data.entries.sum(1), 1, rtol=1e-6)
    logits = NETWORKS["wide", 0.02].lut_layers()[1].nodes.logits().detach()
    last = float((torch.sigmoid(logits) >= 1 - 1 / BINS).double().mean())
    assert gap.data.entries[1, -1] == pytest.approx(last, abs=1e-6)


def test_the_picture_shows_what_the_sentence_says(gap: DiscretisationGap) -> None:
    gap.reset()
    figure = new_figure(*gap.size)
    for show in gap.build(figure):
        show(gap.data)
    left, middle, right = figure.axes
    curves = {line.get_color(): line for line in left.lines[:2]}
    np.testing.assert_array_equal(curves[PALETTE[0]].get_ydata(), gap.data.sweep)
    assert set(curves[PALETTE[1]].get_ydata()) == {gap.data.hard}
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), gap.data.first)
    np.testing.assert_array_equal(middle.lines[1].get_ydata(), gap.data.alone)
    assert len(right.lines) == 3
    said = f"soft {gap.data.soft:.1%}, hard {gap.data.hard:.1%}"
    assert said in gap.alt and said.capitalize() == middle.get_title("left")
    worst = int(np.argmax(-np.diff(gap.data.first)))
    assert f"layer {worst + 1} costs most" in gap.alt


@pytest.mark.parametrize("change", [{"start": "narrow"}, {"rate": 0.1}, {"temperature": 4.0}])
def test_every_control_of_the_gap_changes_picture_and_sentence(
    gap: DiscretisationGap, change: dict[str, Any]
) -> None:
    gap.reset()
    png, alt = gap.png, gap.alt
    gap.set(**change)
    assert gap.png != png and gap.alt != alt and gap.errors == []


@pytest.mark.parametrize(
    ("models", "error", "said"),
    [
        pytest.param({}, TypeError, "models must map", id="nothing"),
        pytest.param({"a": NETWORKS["wide", 0.1]}, TypeError, "a key of models", id="key"),
        pytest.param({("a", 0.1): nn.Linear(1, 1)}, TypeError, "got Linear", id="kind"),
        pytest.param(
            {("a", 0.1): NETWORKS["wide", 0.1], ("b", 0.2): NETWORKS["wide", 0.1]},
            ValueError,
            "every pair",
            id="pair",
        ),
        pytest.param(
            {("a", 0.1): NETWORKS["wide", 0.1], ("b", 0.1): network(0, (20, 10))},
            ValueError,
            "equally many layers",
            id="layers",
        ),
    ],
)
def test_networks_that_do_not_go_together_are_refused(
    models: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        DiscretisationGap(models, SEEN, CLASSES)
