"""Create, load, override, save and build LUT networks: `python -m eqprop_lab.lut.example`.

Each step prints what it did. It needs no download and takes a few seconds; its files go into a
folder of their own, which is removed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from eqprop_lab.lut import (
    BaseLUTModel,
    ModelConfig,
    SimpleFeedForward,
    build_model,
    get_pretrained_model_info,
    list_pretrained_models,
)


def blobs(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points around four corners of a square, (samples, 2) in [0, 1], and which corner."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    y = torch.randint(4, (samples,), generator=generator, device="cpu")
    centre = torch.stack([y % 2, y // 2], 1) * 0.5 + 0.25
    noise = torch.randn(samples, 2, generator=generator, device="cpu")
    return (centre + 0.08 * noise).clamp(0, 1), y


def accuracy(model: BaseLUTModel, x: Tensor, y: Tensor) -> float:
    """Part of the samples that are right, in eval mode."""
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


def train(model: BaseLUTModel, x: Tensor, y: Tensor, steps: int = 60) -> None:
    """A bare loop; `EqPropTrainer(model, gradient="autograd")` is the one with everything."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        cost = torch.nn.functional.cross_entropy(model(x), y)
        (cost + model.get_regularization_loss()).backward()
        optimizer.step()


def main() -> None:
    """All steps, one after the other."""
    x, y = blobs(400, seed=0)
    test = blobs(400, seed=1)

    config = ModelConfig(
        model_type="feedforward",
        layer_type="random",
        node_type="probabilistic",
        encoder_config={"name": "thermometer", "num_bits": 8},
        node_input_dim=4,
        layer_widths=[64, 40],
        num_classes=4,
        runtime={"regularizers": {"clarity": {"weight": 0.01}}},
    )
    model = SimpleFeedForward(config)
    model.fit_encoder(x)
    before = accuracy(model, *test)
    train(model, x, y)
    print(f"from a config: {model.count_parameters()['total']} parameters, hard accuracy "
          f"{before:.2f} before training, {accuracy(model, *test):.2f} after")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        model.save_as_pretrained("blobs", folder)
        names = sorted(path.name for path in Path(folder, "feedforward").iterdir())
        print(f"saved: {', '.join(names)}")
        again = build_model("blobs", pretrained_dir=folder)
        same = torch.equal(again(test[0]), model(test[0]))
        print(f"by name: logits of the loaded model are the same to the last bit: {same}")
        path = Path(folder, "feedforward", "blobs.yaml")
        untrained = build_model(path, load_weights=False)
        print(f"from YAML, untrained: {sum(untrained.config.layer_widths)} nodes")

    for overrides in (
        {"eval_mode": "expectation"},
        {"temperature": 5.0},
        {"eval_mode": "sampling"},
    ):
        model.apply_runtime_overrides(overrides)
        print(f"override {overrides}: accuracy {accuracy(model, *test):.2f}")
    try:
        model.apply_runtime_overrides({"layer_widths": [3]})
    except ValueError as error:
        print(f"refused: {error}")

    print(f"shipped: {list_pretrained_models()}")
    told = get_pretrained_model_info("digits_small")["metadata"]
    digits = build_model("digits_small")
    ones = sum(int(table.sum()) for table in digits.truth_tables())
    print(
        f"digits_small: {told['test_accuracy']:.1%} of the test digits, {ones} ones in its tables"
    )


if __name__ == "__main__":
    main()
