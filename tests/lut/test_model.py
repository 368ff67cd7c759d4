"""The feed-forward network: what it computes, what its seed decides, training, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, build_dataset
from eqprop_lab.datasets import Split
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.instruments.memory import estimate_memory_usage
from eqprop_lab.lut import REGISTRY, SimpleFeedForward
from tests.lut.pieces import X, config, looked_up, model

KINDS = REGISTRY.names("node")
WIRINGS = REGISTRY.names("layer")
Y = torch.arange(len(X)) % 3


@pytest.mark.parametrize("kind", KINDS)
def test_hard_logits_are_those_of_tables_looked_up_one_by_one(kind: str) -> None:
    hard = model(node_type=kind).eval()
    with torch.no_grad():
        bits = looked_up(list(hard.layers), hard.encode(X[:6]))
        wanted = bits.view(6, 3, 4).sum(2) / 2  # tau = sqrt(12 / 3)
        torch.testing.assert_close(hard(X[:6]), wanted, rtol=0, atol=1e-6)
        assert float(wanted.std()) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_truth_tables_are_what_layers_do_on_all_inputs(kind: str) -> None:
    hard = model(node_type=kind, node_input_dim=3).eval()
    tables, pins = hard.truth_tables(), hard.config.node_input_dim  # gates have two
    assert [tuple(table.shape) for table in tables] == [(20, 2**pins), (12, 2**pins)]
    for layer, table in zip(hard.layers, tables, strict=True):
        index = layer.wiring.indices()
        for entry in range(2**pins):
            x = torch.zeros(len(index[0]), int(layer.input_size))
            for pin in range(pins):  # a sample for each node: its own pins, nothing else
                x[torch.arange(len(x)), index[pin].long()] = float(entry >> pin & 1)
            with torch.no_grad():
                assert torch.equal(layer(x).diagonal(), table[:, entry].float())


def test_layers_are_wired_and_drawn_apart_and_a_seed_is_a_model() -> None:
    one, same, other = (
        model(layer_widths=[36, 36], num_classes=4, seed=seed) for seed in (1, 1, 2)
    )
    first, second = one.layers
    assert first.input_size == second.input_size
    assert not torch.equal(first.wiring.index, second.wiring.index)
    assert not torch.equal(first.nodes.theta, second.nodes.theta)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    model(runtime={"eval_mode": "sampling", "eval_flip_probability": 0.1}).eval()(X)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("known", [True, False])
def test_layers_are_there_as_soon_as_the_input_size_is_known(known: bool) -> None:
    made = SimpleFeedForward(config(input_size=12 if known else None))
    assert len(made.layers) == (2 if known else 0)
    with pytest.raises(RuntimeError, match="fit_encoder"):
        made(X)
    with pytest.raises(RuntimeError, match="fit_encoder"):
        made.encode(X)
    made.fit_encoder(X.view(-1, 3, 4))
    assert fingerprint(made) == fingerprint(model()) and made.config == config()
    assert torch.equal(made(X.view(-1, 3, 4)), made(X))
    with pytest.raises(RuntimeError, match="fitted already"):
        made.fit_encoder(X)
    with pytest.raises(ValueError, match="12 features"):
        made(X[:, :5])


def test_no_trainer_takes_a_model_without_layers() -> None:
    with pytest.raises(ValueError, match="parameters to train"):
        EqPropTrainer(SimpleFeedForward(config(input_size=None)), "autograd")


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_under_the_trainer(kind: str, wiring: str) -> None:
    made = model(node_type=kind, layer_type=wiring)
    trainer = EqPropTrainer(made, "autograd", lr=0.03, progress=False)
    labels = (X[:, :6].sum(1) > X[:, 6:].sum(1)).long()
    batches = Split(X, labels).batches(10, shuffle=True)
    history = trainer.fit(batches, 25)
    assert history["train_loss"][-1] < 0.7 * history["train_loss"][0]
    assert trainer.evaluate(batches)["accuracy"] > 0.75


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def trained(stop: bool) -> Any:
        runtime = {"flip_probability": 0.1, "dropout": 0.1, "forward_mode": "soft"}
        trainer = EqPropTrainer(model(runtime=runtime), "autograd", lr=0.03, progress=False)
        batches = Split(X, Y).batches(10, shuffle=True, seed=2)
        torch.manual_seed(7)
        path = tmp_path / "one.pt"
        if not stop:
            trainer.fit(batches, 3)
            return trainer
        trainer.fit(batches, 3, checkpoint_path=path, callbacks=[Stop()])
        other = EqPropTrainer(model(runtime=runtime), "autograd", lr=0.03, progress=False)
        batches = Split(X, Y).batches(10, shuffle=True, seed=2)
        other.fit(batches, 3, checkpoint_path=path, callbacks=[Stop()], resume=True)
        return other

    class Stop:
        def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
            from eqprop_lab import StopTraining

            if record["epoch"] == 2 and trainer.state.resumed is False:
                raise StopTraining

    whole, parts = trained(False), trained(True)
    assert parts.history.epochs == 3
    assert fingerprint(whole.model) == fingerprint(parts.model)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_loaded_says_the_same_to_the_last_bit(
    kind: str, wiring: str, tmp_path: Path
) -> None:
    made = model(node_type=kind, layer_type=wiring)
    made.save_config(str(tmp_path / "one.yaml"))
    made.save_weights(str(tmp_path / "one.pth"))
    for size in (12, None):
        other = SimpleFeedForward(
            config(node_type=kind, layer_type=wiring, input_size=size, seed=9)
        )
        other.load_weights(str(tmp_path / "one.pth"))
        assert fingerprint(other) == fingerprint(made)
        for mode in ("threshold", "expectation", "sampling"):
            for one in (made, other):
                one.apply_runtime_overrides({"eval_mode": mode, "sampling_seed": 3})
            with torch.no_grad():
                assert torch.equal(made.eval()(X), other.eval()(X))
                assert torch.equal(made.train()(X), other.train()(X))


def test_halved_weights_keep_every_bit_of_the_tables(tmp_path: Path) -> None:
    made = model()
    with torch.no_grad():
        made.layers[0].nodes.theta[0, :4] = torch.tensor([-1e-9, 1e-9, -1e6, 0.0])
    made.save_weights(str(tmp_path / "half.pth"), half=True)
    made.save_weights(str(tmp_path / "whole.pth"))
    other = SimpleFeedForward(config())
    other.load_weights(str(tmp_path / "half.pth"))
    assert all(map(torch.equal, made.truth_tables(), other.truth_tables()))
    with torch.no_grad():
        assert torch.equal(made.eval()(X), other.eval()(X))
        torch.testing.assert_close(made.train()(X), other.train()(X), rtol=0, atol=5e-3)
    small, large = ((tmp_path / f"{name}.pth").stat().st_size for name in ("half", "whole"))
    assert small < large - 900


def test_halved_entries_of_dwn_stay_on_their_side_of_a_half(tmp_path: Path) -> None:
    made = model(node_type="dwn")
    with torch.no_grad():
        made.layers[0].nodes.theta[0, :3] = torch.tensor([0.49999, 0.5, 0.50001])
    made.save_weights(str(tmp_path / "half.pth"), half=True)
    other = SimpleFeedForward(config(node_type="dwn"))
    other.load_weights(str(tmp_path / "half.pth"))
    assert all(map(torch.equal, made.truth_tables(), other.truth_tables()))


@pytest.mark.parametrize("kind", ["warp", "polylut"])
def test_what_is_no_entry_is_never_halved(kind: str, tmp_path: Path) -> None:
    made = model(node_type=kind, layer_type="topk")
    made.save_weights(str(tmp_path / "half.pth"), half=True)
    other = SimpleFeedForward(config(node_type=kind, layer_type="topk"))
    other.load_weights(str(tmp_path / "half.pth"))
    for name, value in made.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "one.pth")
    made = model(node_type="warp")
    made.save_weights(path)
    # the same shapes, and no error of torch
    with pytest.raises(ValueError, match="node_type is 'warp' there, 'probabilistic'"):
        model().load_weights(path)
    with pytest.raises(ValueError, match="layer_widths"):
        model(node_type="warp", layer_widths=[20, 15]).load_weights(path)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        model().load_weights(str(tmp_path / "none.pth"))
    with pytest.raises(RuntimeError, match="no weights yet"):
        SimpleFeedForward(config(input_size=None)).save_weights(path)
    for content in ({"a": torch.ones(2)}, [1], made.state_dict()):
        torch.save(content, path)
        with pytest.raises(ValueError, match="not what save_weights writes"):
            model().load_weights(path)
    Path(path).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"one\.pth cannot be read"):
        model().load_weights(path)


def test_a_file_without_a_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.pth"
    model().save_weights(str(path))
    content = torch.load(path, weights_only=True)
    del content["tensors"]["encoder.thresholds"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"one\.pth does not fit"):
        model().load_weights(str(path))


def test_the_encoder_that_is_loaded_is_the_one_that_was_saved(tmp_path: Path) -> None:
    made = model()
    made.save_weights(str(tmp_path / "one.pth"))
    other = SimpleFeedForward(config())
    other.fit_encoder(10 * X)
    other.load_weights(str(tmp_path / "one.pth"))
    assert torch.equal(other.encode(X), made.encode(X))


def test_copies_and_pickles_are_the_same_model() -> None:
    made = model().eval()
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(X), made(X))


def test_transfer_takes_the_layers_that_fit() -> None:
    source, target = model(), model(layer_widths=[20, 15], num_classes=5, seed=3)
    assert target.copy_shared_layers(source) == [0]
    assert torch.equal(target.layers[0].nodes.theta, source.layers[0].nodes.theta)
    assert torch.equal(target.layers[0].wiring.index, source.layers[0].wiring.index)
    assert model(node_type="warp").copy_shared_layers(source) == []
    with pytest.raises(TypeError, match="source must be a BaseLUTModel"):
        target.copy_shared_layers(torch.nn.Linear(2, 2))


def test_a_batch_that_cannot_be_fed() -> None:
    made = model()
    with pytest.raises(ValueError, match="NaN"):
        made.check_batch(torch.full((2, 12), torch.nan))
    with pytest.raises(TypeError, match="dtype"):
        made.check_batch(X.double())
    assert made.count_parameters() == {"total": 512, "trainable": 512, "non_trainable": 0}


def test_uneven_classes_share_all_outputs() -> None:
    made = model(layer_widths=[20, 14], runtime={"head_padding": True, "output_tau": 1.0}).eval()
    with torch.no_grad():
        bits = made.encode(X)
        for layer in made.layers:
            bits = layer(bits)
        wanted = torch.stack([bits[:, :5].sum(1), bits[:, 5:10].sum(1), bits[:, 10:].sum(1)], 1)
        assert torch.equal(made(X), wanted)


def test_a_step_of_two_layers_of_1000_takes_little_memory() -> None:
    made = SimpleFeedForward(
        config(
            encoder_config={"name": "thermometer", "num_bits": 4},
            layer_widths=[1000, 1000],
            num_classes=10,
            node_input_dim=6,
            input_size=64,
        )
    )
    made.fit_encoder(build_dataset("digits").train.x[:50])
    found = estimate_memory_usage(made, (64,), batch_size=128, gradient="autograd")
    extra = found["total_mb"] - found["parameters_mb"]
    assert 5 < extra < 40, found
