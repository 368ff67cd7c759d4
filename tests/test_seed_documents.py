"""The usage blocks that users of the predecessor know, in this package's names, with data made on
the spot.

`use_compile=True` runs with the compiler's quick back end where it can, so that the test stays
short.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.datasets.test_datasets import write_mnist


@pytest.fixture
def mnist_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder in which torchvision finds MNIST files, 30 training and 10 test images."""
    from eqprop_lab.datasets.torchvision_sets import import_torchvision

    import_torchvision()
    write_mnist(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile traces as always, and runs what it traced without generating C++."""
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, mode=None, **options: real(function, backend="eager")
    )


@pytest.mark.usefixtures("mnist_here", "quick_compiler")
def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from eqprop_lab import EqPropTrainer, LoopedMLP

    # Create model with spectral normalization (required for stability)
    model = LoopedMLP(
        input_dim=784,
        hidden_dim=256,
        output_dim=10,
        use_spectral_norm=True,  # Guarantees L < 1
    )

    # High-level trainer with torch.compile
    trainer = EqPropTrainer(model, use_compile=True)

    # Standard PyTorch training loop
    train_data = datasets.MNIST(".", train=True, download=True, transform=transforms.ToTensor())
    history = trainer.fit(DataLoader(train_data, batch_size=64), epochs=10)

    # Evaluate
    test_loader = DataLoader(
        datasets.MNIST(".", train=False, transform=transforms.ToTensor()), batch_size=64
    )
    print(f"Accuracy: {trainer.evaluate(test_loader)['accuracy']:.1%}")

    assert capsys.readouterr().out.startswith("Accuracy: ")
    assert (
        history["train_loss"][-1] < 0.7 * history["train_loss"][0] and model.contraction_bound() < 1
    )
    compiled = model.__dict__["step"]
    assert compiled.compiled is not None and not compiled.failed


@pytest.mark.usefixtures("mnist_here")
def test_usage_of_the_architecture_guide() -> None:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from eqprop_lab import EqPropTrainer, LoopedMLP

    train_data = datasets.MNIST(".", train=True, download=True, transform=transforms.ToTensor())
    train_loader = DataLoader(train_data, batch_size=10, shuffle=True)

    model = LoopedMLP(784, 256, 10, use_spectral_norm=True)
    trainer = EqPropTrainer(model)
    trainer.fit(train_loader, epochs=2)

    assert trainer.history.epochs == 2


@pytest.mark.usefixtures("mnist_here")
def test_research_algorithms_of_the_architecture_guide() -> None:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from eqprop_lab import BioplausibleModel, EqPropTrainer, list_algorithms

    # Wraps research algorithm to be PyTorch-compatible
    model = BioplausibleModel("ada_fa", 784, [512], 10)

    train_data = datasets.MNIST(".", train=True, download=True, transform=transforms.ToTensor())
    train_loader = DataLoader(train_data, batch_size=10, shuffle=True)
    history = EqPropTrainer(model).fit(train_loader, epochs=20)
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert set(history["estimator"]) == {"local"}

    thirteen = """backprop eqprop feedback_alignment eq_align ada_fa cf_align leq_fa
                  pc_hybrid eg_fa sparse_eq mom_eq sto_fa em_fa""".split()
    x, y = next(iter(train_loader))
    for name in thirteen:
        assert name in list_algorithms()
        first = BioplausibleModel(name, 784, [64], 10, seed=0)
        losses = [first.train_step(x, y)["loss"] for _ in range(60)]
        assert losses[-1] < losses[0], name


@pytest.mark.usefixtures("mnist_here")
def test_baseline_for_comparison() -> None:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from eqprop_lab import BackpropMLP, EqPropTrainer

    train_data = datasets.MNIST(".", train=True, download=True, transform=transforms.ToTensor())
    trainer = EqPropTrainer(BackpropMLP(784, 256, 10), gradient="autograd")
    history = trainer.fit(DataLoader(train_data, batch_size=64), epochs=5)

    assert history["train_loss"][-1] < history["train_loss"][0]


def test_what_the_summary_lists_for_users() -> None:
    # isort: skip
    from eqprop_lab import (
        compute_gradient_norm,
        count_parameters,
        create_model_preset,
        estimate_gradients,
        estimate_memory_usage,
        get_dataset_info,
        get_model_config,
    )

    model = create_model_preset("mnist_small")
    assert count_parameters(model) == 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10

    assert create_model_preset("mnist_small", hidden_dim=512).hidden_dim == 512
    assert get_model_config("mnist_small", hidden_dim=512)["hidden_dim"] == 512
    assert get_dataset_info("cifar-10")["input_dim"] == 3072

    x, y = torch.rand(4, 784), torch.arange(4)
    for name, gradient in estimate_gradients(model, x, y).items():
        model.get_parameter(name).grad = gradient
    assert compute_gradient_norm(model) > 0

    memory = estimate_memory_usage(model, (784,), batch_size=64)
    assert memory["total_mb"] > memory["parameters_mb"] > 0.4


def test_what_the_summary_lists_for_developers() -> None:
    import eqprop_lab
    from eqprop_lab import ModelRegistry, model_registry
    from eqprop_lab.acceleration import HAS_CUPY, compile_model, get_optimal_backend

    registry = ModelRegistry()
    registry.register("custom", eqprop_lab.LoopedMLP)
    model = registry.create("custom", input_dim=4, hidden_dim=3, output_dim=2)
    assert registry.list_models() == ["custom"] and "LoopedMLP" in model_registry.list_models()
    assert isinstance(HAS_CUPY, bool) and get_optimal_backend() in ("cuda", "mps", "cpu")
    assert compile_model(model) is model


def test_the_language_models_of_the_summary() -> None:
    from eqprop_lab import (
        HAS_LM_VARIANTS,
        EqPropAttentionOnlyLM,
        EqPropLM,
        FullEqPropLM,
        HybridEqPropLM,
        LoopedMLPForLM,
        RecurrentEqPropLM,
        count_parameters,
        create_eqprop_lm,
        create_model_preset,
        get_eqprop_lm,
        list_eqprop_lm_variants,
        register_eqprop_lm,
    )
    from eqprop_lab.models.language import EQPROP_LM_REGISTRY

    five = {
        FullEqPropLM, EqPropAttentionOnlyLM, RecurrentEqPropLM, HybridEqPropLM, LoopedMLPForLM
    }  # fmt: skip
    assert HAS_LM_VARIANTS and len(list_eqprop_lm_variants()) == 5
    built = [get_eqprop_lm(name, vocab_size=65) for name in list_eqprop_lm_variants()]
    assert {type(model) for model in built} == five
    assert type(EqPropLM(variant="hybrid", vocab_size=65)) is HybridEqPropLM

    for name in list_eqprop_lm_variants():
        layers = 1 if name in ("recurrent_core", "looped_mlp") else 2
        whole = create_eqprop_lm(name, vocab_size=65, hidden_dim=64, num_layers=layers)
        half = create_eqprop_lm(name, vocab_size=65, hidden_dim=64, num_layers=layers, scale=0.5)
        assert abs(count_parameters(half) / count_parameters(whole) - 0.5) < 0.01

    register_eqprop_lm("research")(type("Research", (LoopedMLPForLM,), {}))
    try:
        assert isinstance(get_eqprop_lm("research", vocab_size=65), LoopedMLPForLM)
    finally:
        EQPROP_LM_REGISTRY.unregister("research")

    x = torch.zeros(1, 5, dtype=torch.long)
    for name in ("lm_tiny", "lm_small", "lm_medium"):
        with torch.no_grad():
            assert create_model_preset(name)(x).shape == (1, 5, 65)


def test_the_trainer_takes_the_predecessor_s_arguments() -> None:
    from eqprop_lab import EqPropTrainer

    arguments = inspect.signature(EqPropTrainer).parameters
    assert {"model", "optimizer", "lr", "weight_decay", "use_compile", "device"} <= set(arguments)
    assert arguments["use_compile"].default is False


@pytest.fixture
def shakespeare_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small text with the same 65 characters in the place of the plays; `fit` stops early."""
    from eqprop_lab import EqPropTrainer, Vocabulary
    from eqprop_lab.datasets import corpora

    symbols = "".join(Vocabulary.shakespeare().symbols)
    text = ("ROMEO:\nBut soft, what light through yonder window breaks?\n\n" + symbols) * 3
    entry = corpora.TINY_SHAKESPEARE
    path = tmp_path / entry.file
    path.parent.mkdir()
    path.write_text(text, newline="")
    size, digest = len(text), corpora.sha256(text.encode())
    monkeypatch.setenv("EQPROP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(corpora, "TINY_SHAKESPEARE", replace(entry, size=size, sha256=digest))
    fit = EqPropTrainer.fit
    monkeypatch.setattr(EqPropTrainer, "fit", lambda self, loader, epochs: fit(self, loader, 2))


@pytest.mark.usefixtures("shakespeare_here", "quick_compiler")
def test_language_modeling(capsys: pytest.CaptureFixture[str]) -> None:
    from eqprop_lab import EqPropTrainer, TransformerEqProp
    from eqprop_lab.datasets import get_lm_dataset

    # Character-level LM on tiny_shakespeare
    model = TransformerEqProp(
        vocab_size=65,
        hidden_dim=256,
        num_layers=4,
        max_seq_len=128,
    )

    train_loader, vocab = get_lm_dataset("tiny_shakespeare", seq_len=128)
    trainer = EqPropTrainer(model, use_compile=True)
    trainer.fit(train_loader, epochs=50)

    # Generate text
    print(model.generate("ROMEO:", max_new_tokens=100))

    text = capsys.readouterr().out
    assert (
        text.startswith("ROMEO:") and len(text) == 6 + 100 + 1 and set(text) <= set(vocab.symbols)
    )
    assert model.given_vocab == vocab
    losses = trainer.history["train_loss"]
    assert len(losses) == 2 and losses[1] < losses[0] and model.contraction_bound() < 1
    compiled = model.__dict__["step"]
    assert compiled.compiled is not None and not compiled.failed
