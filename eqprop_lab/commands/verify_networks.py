"""Checks of `verify` for what stands beside the looped networks: predictive coding, chains of
blocks, learning rules and networks of look-up tables.

Each returns (ok, line), and its reference is written out here: nothing is shared with what it
checks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.algorithms import BioplausibleModel, list_algorithms
from eqprop_lab.datasets import build_dataset
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.models import EquilibriumChain, PredictiveMLP
from eqprop_lab.models.lut_network import LUTNetwork
from eqprop_lab.training import EqPropTrainer

Result = tuple[bool, str]
Batch = tuple[Tensor, Tensor]
SWEEP_ERROR = 1e-10
CHAIN_ERROR = 1e-3
LEARNT = 0.5  # accuracy, where guessing has a tenth


def digits() -> tuple[list[Batch], list[Batch]]:
    """Batches of one epoch, and those held out."""
    data = build_dataset("digits")
    return list(data.train.batches(64, shuffle=True, seed=0)), list(data.validation.batches(180))


def distance(found: dict[str, Tensor], model: nn.Module, logits: Tensor, y: Tensor) -> float:
    """||found - g|| / ||g||, g by autograd from the mean cross-entropy of these logits."""
    loss = nn.functional.cross_entropy(logits, y)
    names, parameters = zip(*model.named_parameters(), strict=True)
    exact = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    apart = torch.cat([(found[name] - g).flatten() for name, g in exact.items()])
    return float(apart.norm() / torch.cat([g.flatten() for g in exact.values()]).norm())


def check_predictive() -> Result:
    """One sweep of the nudged phases against backprop through the same layers in float64, and a
    network that learns by it.
    """
    batches, held = digits()
    model = PredictiveMLP(64, [32, 24], 10, seed=0).double()
    x, y = batches[0]
    found = estimate_gradients(model, x.double(), y, "centered", beta=0.1)
    weights = dict(model.named_parameters())
    s = x.double().flatten(1)
    for number in range(3):
        s = s @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
        s = torch.tanh(s) if number < 2 else s
    error = distance(found, model, s, y)
    trainer = EqPropTrainer(PredictiveMLP(64, [32, 24], 10, seed=0), lr=1e-2, progress=False)
    trainer.fit(batches, epochs=1)
    accuracy = trainer.evaluate(held)["accuracy"]
    ok = error < SWEEP_ERROR and accuracy > LEARNT
    return ok, (
        f"a sweep at beta 0.1 is {error:.1e} from backprop (limit {SWEEP_ERROR:.0e}), accuracy "
        f"after an epoch {accuracy:.3f}"
    )


def chain_logits(chain: EquilibriumChain, x: Tensor, sweeps: int = 200) -> Tensor:
    """Blocks of two tanh layers one after the other, each by plain sweeps, for autograd."""
    for model in chain.models():
        (W, b), (V, c) = ((layer.weight, layer.bias) for layer in model._layers())
        top = torch.zeros(len(x), len(V), dtype=x.dtype, device=x.device)
        for _ in range(sweeps):
            low = torch.tanh(x @ W.T + b + model.gamma * top @ V)
            top = torch.tanh(low @ V.T + c)
        x = top
    readout = chain.models()[-1].W_out
    return nn.functional.linear(x, readout.weight, readout.bias)


def check_blocks() -> Result:
    """EqProp inside of two blocks and the chain rule between them, against autograd through all of
    it in float64.
    """
    x, y = digits()[0][0]
    x = x.double().flatten(1)
    chain = EquilibriumChain(64, 24, 10, num_blocks=2, seed=0).double()
    for block in chain.blocks:
        assert isinstance(block, EquilibriumBlock)
        block.use("centered", beta=0.03, free_steps=300, nudged_steps=300, tol=1e-12)
    names, parameters = zip(*chain.named_parameters(), strict=True)
    loss = nn.functional.cross_entropy(chain(x), y)
    found = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    error = distance(found, chain, chain_logits(chain, x), y)
    return error < CHAIN_ERROR, (
        f"gradient error of two blocks, centered at beta 0.03, {error:.1e} (limit "
        f"{CHAIN_ERROR:.0e})"
    )


def check_rules() -> Result:
    """Every learning rule learns the digits, and the one called backprop follows the gradient."""
    batches, held = digits()
    x, y = batches[0]
    net = BioplausibleModel("backprop", 64, [32], 10, seed=0).double()
    first, last = (layer for layer in net.rule.layers)
    hidden = torch.tanh(x.double().flatten(1) @ first.weight.T + first.bias)
    error = distance(
        dict(net.local_gradients(x.double(), y)), net, hidden @ last.weight.T + last.bias, y
    )
    reached = {}
    for name in list_algorithms():
        trainer = EqPropTrainer(
            BioplausibleModel(name, 64, [32], 10, seed=0), lr=1e-2, progress=False
        )
        trainer.fit(batches, epochs=1)
        reached[name] = trainer.evaluate(held)["accuracy"]
    least = min(reached, key=lambda name: reached[name])
    return error < SWEEP_ERROR and reached[least] > LEARNT, (
        f"backprop's gradient error {error:.1e} (limit {SWEEP_ERROR:.0e}); {len(reached)} rules, "
        f"the least after an epoch {least} with accuracy {reached[least]:.3f}"
    )


def looked_up(model: LUTNetwork, x: Tensor) -> Tensor:
    """Votes (B, classes) of the hard network: tables read at the numbers that the bits spell."""
    bits = model.encode(x)
    for layer, table in zip(model.lut_layers(), model.truth_tables(), strict=True):
        wires = layer.wiring.indices().long()  # type: ignore[operator]
        pins = bits[:, wires]  # (B, pins, nodes)
        places = 2 ** torch.arange(pins.shape[1], device=x.device)
        index = (pins.long() * places[:, None]).sum(1)
        bits = table.T.gather(0, index).to(x.dtype)
    return bits.view(len(x), model.output_dim, -1).sum(2)


def check_tables() -> Result:
    """A network of look-up tables learns, and answers what its tables hold, read one by one."""
    batches, held = digits()
    model = LUTNetwork(64, 10, hidden_dim=[240, 120], seed=0)
    trainer = EqPropTrainer(model, gradient="autograd", lr=2e-2, progress=False)
    trainer.fit(batches, epochs=3)
    accuracy = trainer.evaluate(held)["accuracy"]
    x, _ = held[0]
    with torch.no_grad():
        votes, logits = looked_up(model, x), model.eval()(x)
    scale = float(logits.abs().sum() / votes.abs().sum())
    apart = float((logits - scale * votes).abs().max())
    ok = apart < 1e-5 and float(votes.std()) > 0.0 and accuracy > LEARNT
    return ok, (
        f"hard logits {apart:.1e} from the tables' votes (limit 1e-05), accuracy after three "
        f"epochs {accuracy:.3f}"
    )
