"""Every runtime parameter changes what it should, at build and later, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from eqprop_lab import EqPropTrainer
from eqprop_lab.datasets import Split
from eqprop_lab.lut import REGISTRY, SimpleFeedForward
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.nodes import ProbabilisticNodes
from eqprop_lab.lut.runtime import EVAL_MODES, Runtime
from tests.lut.pieces import X, config, model


def state(made: SimpleFeedForward) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.state_dict().items()}


@torch.no_grad()
def looks(made: SimpleFeedForward) -> dict[str, Tensor]:
    """Everything that can be told of a model from outside; training is drawn from seed 0."""
    found = state(made)
    found["eval"] = made.eval()(X)
    torch.manual_seed(0)
    found["train"] = made.train()(X)
    made.zero_grad()
    with torch.enable_grad():
        torch.manual_seed(0)
        torch.nn.functional.cross_entropy(made(X), torch.arange(len(X)) % 3).backward()
    for name, parameter in made.named_parameters():
        found[f"{name}.grad"] = parameter.grad.clone()
    found["penalty"] = made.get_regularization_loss()
    return found


GRADS = {"layers.0.nodes.theta.grad", "layers.1.nodes.theta.grad"}
TRAINING = {"train", *GRADS}
PARAMETERS = {"layers.0.nodes.theta", "layers.1.nodes.theta"}
CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"temperature": 0.3}, TRAINING),
    ({"temperature": 0.3, "eval_mode": "expectation"}, TRAINING | {"eval"}),
    ({"eval_mode": "expectation"}, {"eval"}),
    ({"eval_mode": "sampling"}, {"eval"}),
    ({"eval_mode": "sampling", "sampling_seed": 5}, {"eval"}),
    ({"forward_mode": "hard"}, TRAINING),
    ({"forward_mode": "gumbel_soft"}, TRAINING),
    ({"forward_mode": "gumbel_hard"}, TRAINING),
    ({"flip_probability": 0.2}, TRAINING),
    ({"eval_flip_probability": 0.2}, {"eval"}),
    ({"dropout": 0.3}, TRAINING),
    ({"grad_stabilization": "layerwise"}, GRADS),
    ({"grad_stabilization": "batchwise"}, GRADS),
    ({"output_tau": 7.0}, TRAINING | {"eval"}),
    ({"regularizers": {"entropy": {"weight": 0.1}}}, {"penalty"}),
    ({"regularizers": {"clarity": 0.1}}, {"penalty"}),
    ({"regularizers": {"l1": 0.1}}, {"penalty"}),
    ({"regularizers": {"l2": 0.1}}, {"penalty"}),
    ({"regularizers": {"spectral": 0.1}}, {"penalty"}),
    ({"regularizers": {"functional": {"weight": 0.1, "exponent": 3}}}, {"penalty"}),
    ({"sampling_seed": 5}, set()),
    ({"head_padding": True}, set()),
    ({"grad_target_std": 2.0, "grad_epsilon": 1.0, "grad_subtract_mean": True}, set()),
]


@pytest.mark.parametrize("later", [False, True], ids=["built", "later"])
@pytest.mark.parametrize(
    ("runtime", "changed"),
    CASES,
    ids=lambda case: str(sorted(case) if isinstance(case, set) else case),
)
def test_an_override_changes_what_it_should(
    runtime: dict[str, Any], changed: set[str], later: bool
) -> None:
    before = looks(model())
    made = model(runtime={} if later else runtime)
    if later:
        made.apply_runtime_overrides(runtime)
    after = looks(made)
    assert {name for name in before if not torch.equal(before[name], after[name])} == changed
    assert made.get_config().runtime == runtime


def test_every_runtime_parameter_is_tried() -> None:
    tried = {key for runtime, _ in CASES for key in runtime} | {"init_fn", "init_kwargs"}
    assert tried == vars(Runtime()).keys()


@pytest.mark.parametrize("name", REGISTRY.names("initializer"))
@pytest.mark.parametrize("kind", REGISTRY.names("node"))
def test_parameters_begin_as_init_fn_says(name: str, kind: str) -> None:
    if (name, kind) == ("kaiming_normal", "difflogic"):
        return  # two inputs make it the default
    before = state(model(node_type=kind))
    runtime = {"init_fn": name} | ({"init_std": 0.3} if name == "normal" else {})
    after = state(model(node_type=kind, runtime=runtime))
    assert torch.equal(before["layers.0.wiring.index"], after["layers.0.wiring.index"])
    assert not any(torch.equal(before[key], after[key]) for key in PARAMETERS)
    other = model(node_type=kind)
    with pytest.warns(UserWarning, match="reset_parameters"):
        other.apply_runtime_overrides(runtime)
    assert all(torch.equal(before[key], state(other)[key]) for key in PARAMETERS)
    other.reset_parameters()
    assert all(torch.equal(after[key], state(other)[key]) for key in PARAMETERS)


@pytest.mark.parametrize(
    ("runtime", "std"),
    [
        ({"init_fn": "normal", "init_std": 0.05}, 0.05),
        ({"init_fn": "normal", "init_kwargs": {"std": 0.05}}, 0.05),
        ({"init_fn": "uniform", "init_low": 0.0, "init_high": 0.3}, 0.3 / math.sqrt(12)),
        ({"init_fn": "xavier_normal"}, math.sqrt(2 / 12)),
        ({"init_fn": "xavier_uniform"}, math.sqrt(2 / 12)),
        ({"init_fn": "kaiming_normal"}, math.sqrt(2 / 6)),
        ({"init_fn": "kaiming_uniform"}, math.sqrt(2 / 6)),
        ({"init_fn": "variance_stabilized", "init_v_target": 2.0}, math.sqrt(8 / 12)),
        ({"init_fn": "zeros"}, 0.0),
    ],
)
def test_spread_of_first_parameters(runtime: dict[str, Any], std: float) -> None:
    made = model(layer_widths=[300, 300], node_input_dim=6, runtime=runtime)
    # fan_in = 6, fan_out = 300 * 6 / 300
    assert float(made.layers[0].nodes.theta.detach().std()) == pytest.approx(std, rel=0.03)


def test_a_residual_layer_is_nearly_its_first_pins() -> None:
    made = model(runtime={"init_fn": "residual", "init_clarity": 3.0, "init_noise": 0.0}).eval()
    with torch.no_grad():
        bits = made.encode(X)
        first = made.layers[0]
        assert torch.equal(first(bits), bits[:, first.wiring.index[0].long()])
    with pytest.warns(UserWarning, match="init_clarity=4"):
        model(runtime={"init_fn": "residual", "init_clarity": 4.0})


@pytest.mark.parametrize("key", ["layer_widths", "num_classes", "node_type", "seed", "input_size"])
def test_structure_cannot_be_overridden(key: str) -> None:
    made = model()
    before = looks(made)
    with pytest.raises(ValueError, match=f"{key} is structural"):
        made.apply_runtime_overrides({"temperature": 0.1, key: 3})
    with pytest.raises(ValueError, match="did you mean 'temperature'"):
        made.apply_runtime_overrides({"output_tau": 2.0, "temprature": 3})
    with pytest.raises(ValueError, match="overrides must be a mapping"):
        made.apply_runtime_overrides([1])
    assert all(torch.equal(before[name], value) for name, value in looks(made).items())
    assert made.get_config() == config()


def test_temperature_cannot_change_truth_tables() -> None:
    made = model().eval()
    with torch.no_grad():
        hard = made(X)
        soft = []
        for temperature in (0.01, 1.0, 100.0):
            made.apply_runtime_overrides({"temperature": temperature, "eval_mode": "threshold"})
            assert torch.equal(made(X), hard)
            made.apply_runtime_overrides({"eval_mode": "expectation"})
            soft.append(made(X))
        torch.testing.assert_close(soft[0], hard, rtol=0, atol=0.3)  # cold tables are hard ones
        assert float(soft[2].std()) < 0.1 * float(hard.std())  # hot ones say 1/2 to everything


@pytest.mark.parametrize(
    ("kind", "runtime", "words"),
    [
        ("dwn", {"temperature": 0.5}, "temperature must be 1 for DWNNodes"),
        ("dwn", {"dropout": 0.1}, "dropout must be 0 for DWNNodes"),
        ("hybrid", {"dropout": 0.1}, "dropout must be 0 for HybridNodes"),
        ("hybrid", {"forward_mode": "hard"}, "forward_mode must be 'soft' for HybridNodes"),
    ],
)
def test_what_would_change_nothing_is_refused(
    kind: str, runtime: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        config(node_type=kind, runtime=runtime)
    with pytest.raises(ValueError, match=words):
        model(node_type=kind).apply_runtime_overrides(runtime)


def test_sampled_bits_are_1_as_often_as_the_tables_say() -> None:
    made = model(layer_widths=[12], runtime={"eval_mode": "sampling", "output_tau": 1.0}).eval()
    with torch.no_grad():
        drawn = torch.stack([made(X) for _ in range(400)])
        assert torch.equal(drawn, drawn.round())
        made.apply_runtime_overrides({"eval_mode": "expectation"})
        # four outputs a class, each of variance 1/4 at most
        assert float((drawn.mean(0) - made(X)).abs().max()) < 5 / math.sqrt(400)


def test_sampling_begins_anew_with_its_seed_and_goes_on_in_between() -> None:
    made = model(runtime={"eval_mode": "sampling"}).eval()
    with torch.no_grad():
        first, second = made(X), made(X)
        made.apply_runtime_overrides({"eval_mode": "sampling"})
        again = made(X)
        made.apply_runtime_overrides({"sampling_seed": 2})
        other = made(X)
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(first, other)


def layer(**runtime: Any) -> LUTLayer:
    made: LUTLayer = REGISTRY.get("layer", "random")(
        30, ProbabilisticNodes(40, 3), torch.Generator().manual_seed(0)
    )
    made.nodes.set_logits(torch.randn(40, 8, generator=torch.Generator().manual_seed(1)))
    made.use(Runtime(**runtime), 0)
    return made


def test_bits_are_flipped_as_often_as_asked_and_gradients_pass() -> None:
    made = layer(flip_probability=0.25, eval_flip_probability=0.1)
    bits = (torch.rand(500, 30) < 0.5).float().requires_grad_()
    for training, chance in ((True, 0.25), (False, 0.1)):
        made.train(training)
        flipped = made._flipped(bits)
        rate = float((flipped != bits).float().mean())
        assert abs(rate - chance) < 4 * math.sqrt(chance / bits.numel())
        assert set(flipped.detach().unique().tolist()) == {0.0, 1.0}
        (gradient,) = torch.autograd.grad(flipped.sum(), bits)
        assert torch.equal(gradient, torch.ones_like(bits))


def test_dropped_outputs_are_a_half() -> None:
    made, plain = layer(dropout=0.3), layer()
    x = torch.rand(50, 30)
    halves = made(x) == 0.5
    assert abs(float(halves.float().mean()) - 0.3) < 0.05
    assert torch.equal(made.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(("mode", "axes"), [("layerwise", (0, 1)), ("batchwise", (1,))])
def test_stabilised_gradients_have_the_spread_they_were_given(
    mode: str, axes: tuple[int, ...], mean: bool
) -> None:
    how = {"grad_stabilization": mode, "grad_target_std": 0.5, "grad_epsilon": 1e-20}
    made = layer(**how, grad_subtract_mean=mean)
    seen: list[Tensor] = []
    x = torch.rand(9, 30)
    pins = made.wiring(x.t().contiguous()).requires_grad_()
    out = made._trained(pins)
    weights = torch.rand(9, 40) * torch.logspace(-3, 0, 9)[:, None]
    # the hook is the layer's own: what it hands on is what the nodes get
    out.register_hook(seen.append)
    (out.t() * weights).sum().backward()
    spread = seen[0].t().square().mean(axes).sqrt()
    torch.testing.assert_close(spread, torch.full_like(spread, 0.5), rtol=1e-2, atol=0)
    centre = seen[0].t().mean(axes).abs().max()
    assert (float(centre) < 1e-6) == mean


TABLES = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])  # a parity, and the second pin


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("entropy", 0.0),
        ("clarity", 0.0),
        ("l1", 0.75),  # the parity hangs on both pins, the other table on one
        ("l2", 0.75),
        ("functional", 0.75),
        ("spectral", (2 + 1) / 2),  # degrees of the two Walsh functions that they are
    ],
)
def test_penalties_of_truth_tables(name: str, value: float) -> None:
    penalty = REGISTRY.get("regularizer", name)
    assert float(penalty(TABLES)) == pytest.approx(value, abs=1e-6)


def test_penalties_between_0_and_1() -> None:
    table = torch.tensor([[0.25, 0.5]])
    chance = torch.tensor([0.25, 0.5])
    bits = -(chance * chance.log2() + (1 - chance) * (1 - chance).log2()).mean()
    assert float(REGISTRY.get("regularizer", "entropy")(table)) == pytest.approx(float(bits))
    assert float(REGISTRY.get("regularizer", "clarity")(table)) == pytest.approx(0.75)
    assert float(REGISTRY.get("regularizer", "functional")(table, 3)) == pytest.approx(1 / 64)


@pytest.mark.parametrize("name", REGISTRY.names("regularizer"))
def test_penalties_have_gradients_and_act_in_training(name: str) -> None:
    def trained(weight: float) -> float:
        made = model(runtime={"regularizers": {name: weight}})
        trainer = EqPropTrainer(made, "autograd", optimizer="sgd", lr=1.0, progress=False)
        trainer.fit(Split(X, torch.arange(len(X)) % 3).batches(20), 10)
        made.apply_runtime_overrides({"regularizers": {name: 1.0}})
        penalty = made.get_regularization_loss()
        penalty.backward()
        assert all(float(layer.nodes.theta.grad.abs().sum()) > 0 for layer in made.layers)
        return float(penalty.detach())

    assert trained(30.0) < 0.98 * trained(0.0)


def test_no_penalty_is_0() -> None:
    assert float(model().get_regularization_loss()) == 0


@pytest.mark.parametrize("mode", EVAL_MODES)
def test_overrides_are_written_with_the_configuration(mode: str, tmp_path: Any) -> None:
    made = model()
    made.apply_runtime_overrides({"eval_mode": mode})
    made.save_config(str(tmp_path / "one.yaml"))
    assert type(made.get_config()).from_yaml(tmp_path / "one.yaml").runtime == {"eval_mode": mode}
