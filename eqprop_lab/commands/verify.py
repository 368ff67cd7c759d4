"""`python -m eqprop_lab verify`: does the package compute what it promises?

Twelve checks that fail when what they are named after is broken: the norm, the gradient and the
learning decide, not that something printed. Each returns (ok, line). Whether the machine is fit is
the question of `doctor`, which computes nothing.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pkgutil
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

import eqprop_lab
from eqprop_lab.acceleration import check_cupy_available
from eqprop_lab.commands.arguments import make_parser
from eqprop_lab.commands.verify_networks import (
    Result,
    check_blocks,
    check_predictive,
    check_rules,
    check_tables,
    digits,
    distance,
)
from eqprop_lab.datasets import read_text
from eqprop_lab.devices import get_optimal_backend
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.experiments import presets
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.models import BackpropMLP, FullEqPropLM, LoopedMLP
from eqprop_lab.models.language import get_eqprop_lm, list_eqprop_lm_variants
from eqprop_lab.models.vision import DenseNet3, ResNetCifar
from eqprop_lab.tables import text_table
from eqprop_lab.training import EqPropTrainer
from eqprop_lab.utils import count_parameters

# Rooms that need nothing but the package's own dependencies.
ROOMS = (
    "algorithms",
    "equilibrium",
    "kernel",
    "lut",
    "models",
    "models.language",
    "models.vision",
    "training",
)
OPTIONAL = (
    "cupy",
    "onnx",
    "onnxruntime",
    "fastapi",
    "uvicorn",
    "tensorboard",
    "wandb",
    "datasets",
    "ipywidgets",
    "papermill",
)
PARAMETERS = 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
RESNET20, DENSENET40 = 269_722, 176_122  # 3 channels, 10 classes; k 12 with bottleneck
GRADIENT_ERROR = 5e-3
KERNEL_ERROR = 1e-8
LANGUAGE_ERROR = 1e-4
SYMBOLS, WINDOW = 11, 9


def check_imports() -> Result:
    """Every public name exists and every module of the core rooms imports."""
    missing = [name for name in eqprop_lab.__all__ if not hasattr(eqprop_lab, name)]
    failed = []
    rooms = [importlib.import_module(f"eqprop_lab.{room}") for room in ROOMS]
    modules = [
        f"{room.__name__}.{file.name}"
        for room in rooms
        for file in pkgutil.iter_modules(room.__path__)
    ]
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed.append(f"{name} ({type(error).__name__}: {error})")
    if missing or failed:
        return False, (
            f"missing names: {', '.join(missing) or 'none'}; "
            f"modules that fail: {', '.join(failed) or 'none'}"
        )
    return True, f"{len(eqprop_lab.__all__)} public names, {len(modules)} modules"


def check_models() -> Result:
    """784-256-10 and CNNs of CIFAR: their parameter counts, finite logits of the right shape."""
    digit, photograph = torch.rand(3, 1, 28, 28), torch.rand(3, 3, 32, 32)
    wanted = {
        "LoopedMLP": (LoopedMLP(784, 256, 10, seed=0), digit, PARAMETERS),
        "BackpropMLP": (BackpropMLP(784, 256, 10, seed=0), digit, PARAMETERS),
        "ResNet-20": (ResNetCifar(20, 10, seed=0).eval(), photograph, RESNET20),
        "DenseNet3(40)": (DenseNet3(40, 10, seed=0).eval(), photograph, DENSENET40),
    }
    said, ok, finite = [], True, True
    for name, (model, x, expected) in wanted.items():
        count = count_parameters(model)
        with torch.no_grad():
            logits = model(x)
        finite &= logits.shape == (3, 10) and bool(torch.isfinite(logits).all())
        ok &= count == expected
        said.append(f"{name} {count:,}" + ("" if count == expected else f" NOT {expected:,}"))
    sound = "sound" if finite else "NOT finite or misshapen"
    return ok and finite, f"{', '.join(said)} parameters, logits {sound}"


def _norm(model: LoopedMLP) -> float:
    # Not through the package: a broken certificate must not vouch for itself.
    return float(np.linalg.svd(model.W_rec.weight.detach().double().numpy(), compute_uv=False)[0])


def check_spectral_norm() -> Result:
    """||W_rec|| by NumPy's SVD, strictly below rho before and after a training that raises it."""
    model = LoopedMLP(64, 64, 10, rho=0.9, seed=0)
    before = _norm(model)
    EqPropTrainer(model, lr=0.03, progress=False).fit(digits()[0], epochs=2)
    after = _norm(model)
    certificate = model.contraction_bound()
    ok = before < model.rho and after < model.rho and abs(certificate - after) < 1e-4
    return (
        ok,
        f"||W_rec|| {before:.4f} -> {after:.4f}, cap {model.rho}, certificate {certificate:.4f}",
    )


def reference_gradients(
    model: LoopedMLP, x: Tensor, y: Tensor, steps: int = 200
) -> dict[str, Tensor]:
    """Autograd through `steps` plain steps h <- tanh(W_rec h + u), written out.

    The model's own parameters, mean cross-entropy.
    """
    weight = model.W_rec.weight
    drive = model.W_in(x.flatten(1)) + model.W_rec.bias
    h = torch.zeros_like(drive)
    for _ in range(steps):
        h = torch.tanh(h @ weight.T + drive)
    loss = torch.nn.functional.cross_entropy(model.W_out(h), y)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def check_trainer() -> Result:
    """The EqProp gradient against an independent one in float64, then a loss that falls.

    On unseen digits too.
    """
    model = LoopedMLP(64, 32, 10, seed=0).double()
    batches, held = digits()
    x, y = batches[0]
    estimate = estimate_gradients(
        model, x.double(), y, "centered", beta=0.03, free_steps=200, nudged_steps=200
    )
    reference = reference_gradients(model, x.double(), y)
    error = max(float((estimate[k] - g).norm() / g.norm()) for k, g in reference.items())
    trainer = EqPropTrainer(LoopedMLP(64, 64, 10, seed=0), lr=3e-3, progress=False)
    first = trainer.evaluate(held)
    history = trainer.fit(batches, epochs=3)
    last = trainer.evaluate(held)
    ok = error < GRADIENT_ERROR and last["loss"] < 0.5 * first["loss"] and last["accuracy"] > 0.8
    return ok, (
        f"gradient error {error:.1e} (limit {GRADIENT_ERROR:.0e}), "
        f"train loss {history['train_loss'][-1]:.3f}, validation loss {first['loss']:.3f} -> "
        f"{last['loss']:.3f}, accuracy {last['accuracy']:.3f}"
    )


def kernel_apart(model: LoopedMLP) -> float:
    """How far the weights are from those of the torch path after the same steps, by the trainer."""
    one, other = (copy.deepcopy(model) for _ in range(2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "use_kernel=True computes with NumPy", UserWarning)
        trainers = [
            EqPropTrainer(network, lr=3e-3, use_kernel=on, device="cpu", progress=False)
            for network, on in ((one, True), (other, False))
        ]
    for x, y in digits()[0][:10]:
        for trainer in trainers:
            trainer.train_batch(x.double(), y)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().norm() / q.detach().norm()) for p, q in pairs)


def check_kernel() -> Result:
    """The kernel's gradient against an independent one in float64, its steps against those of
    torch, and a loss that falls when it trains alone.
    """
    model = LoopedMLP(64, 32, 10, seed=0).double()
    x, y = digits()[0][0]
    kernel = EqPropKernel.from_model(
        model, estimator="response", free_steps=200, nudged_steps=200, lr=1e-2
    )
    batch = x.flatten(1).double().numpy(), y.numpy()
    found, reference = kernel.gradients(*batch), reference_gradients(model, x.double(), y)
    error = max(
        float(np.linalg.norm(found[name] - g.numpy()) / g.norm()) for name, g in reference.items()
    )
    apart = kernel_apart(model)
    losses = [kernel.train_step(*batch)["loss"] for _ in range(20)]
    ok = error < KERNEL_ERROR and apart < KERNEL_ERROR and losses[-1] < 0.5 * losses[0]
    return ok, (
        f"gradient error {error:.1e}, weights after 10 steps {apart:.1e} from torch's (limits "
        f"{KERNEL_ERROR:.0e}), alone on one batch {losses[0]:.2f} -> {losses[-1]:.2f}"
    )


def _windows() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(SYMBOLS, (3, WINDOW + 1), generator=generator)


def largest_leak() -> float:
    """The most that another last token changes of logits before it, over all variants trained a
    little.
    """
    text, leaks = _windows(), []
    x, y = text[:, :-1], text[:, 1:]
    other = torch.cat([x[:, :-1], (x[:, -1:] + 1) % SYMBOLS], 1)
    for name in list_eqprop_lm_variants():
        model = get_eqprop_lm(name, vocab_size=SYMBOLS, hidden_dim=16, seed=0)
        EqPropTrainer(model, lr=0.02, tol=1e-3, progress=False).fit([(x, y)] * 5, epochs=1)
        with torch.no_grad():
            here, there = model(x), model(other)
        if torch.equal(here[:, -1], there[:, -1]):
            raise ArithmeticError(f"{name} does not see its last token")
        leaks.append(float((here - there)[:, :-1].abs().max()))
    return max(leaks)


def language_error(estimator: str) -> float:
    """The gradient of all of FullEqPropLM in float64, against autograd through 120 plain sweeps."""
    model = FullEqPropLM(SYMBOLS, 16, 3, 4, WINDOW, inner_dim=24, seed=0).double()
    text = _windows()
    x, y = text[:, :-1], text[:, 1:]
    estimate = estimate_gradients(
        model, x, y, estimator, beta="auto", free_steps=300, nudged_steps=300, tol=1e-12
    )
    drive = model.drive(x)
    state = model.initial_state(drive)
    for _ in range(120):
        # the ball norm, written out
        state = tuple(
            a / (1 + a.square().mean(1, keepdim=True)).sqrt() for a in model.force(state, drive)
        )
    return distance(estimate, model, model.readout(state), y.flatten())


def check_language() -> Result:
    """Nothing of the future reaches the past, the gradient of a directed model is right, and a
    model learns more of a text than how frequent each character is.
    """
    leak, error = largest_leak(), language_error("asymmetric")
    text = read_text("python_docs")
    model = get_eqprop_lm("hybrid", vocab_size=len(text.vocab), hidden_dim=32, seed=0)
    trainer = EqPropTrainer(model, lr=0.01, tol=1e-3, progress=False)
    trainer.fit(text.batches("train", 32, 16, limit=16 * 80), epochs=1)
    held = text.batches("validation", 32, 64, limit=64)
    loss = trainer.evaluate(held)["loss"]
    counts = torch.bincount(text.train, minlength=len(text.vocab)) + 1.0
    unigram = -float((counts / counts.sum()).log()[held.split.y].mean())
    ok = leak == 0.0 and error < LANGUAGE_ERROR and loss < unigram - 0.3
    return ok, (
        f"leak {leak} over {len(list_eqprop_lm_variants())} variants, gradient error of full "
        f"{error:.1e} (limit {LANGUAGE_ERROR:.0e}), hybrid after 80 steps {loss:.2f} nats a "
        f"character (unigrams {unigram:.2f})"
    )


def check_presets() -> Result:
    """Presets have the sizes they name, overrides override, unknown ones are refused."""
    wrong = []
    names = presets.list_presets(constructible=True)
    for name in names:
        model = presets.create_model_preset(name)
        wanted = presets.get_model_config(name)
        wrong += [
            f"{name}.{key}"
            for key, value in wanted.items()
            if not _holds(getattr(model, key, value), value)
        ]
    wider = count_parameters(presets.create_model_preset("mnist_small", hidden_dim=96))
    if wider != count_parameters(LoopedMLP(784, 96, 10)):
        wrong.append("the override hidden_dim=96")
    try:
        presets.create_model_preset("mnist_small", hiden_dim=96)
        wrong.append("an unknown override, which was accepted")
    except ValueError:
        pass  # as it must be
    later = [name for name in presets.list_presets() if name not in names]
    if wrong or len(names) < 4:
        return False, f"wrong: {', '.join(wrong) or 'presets are missing'} ({len(names)} construct)"
    more = ", ".join(later) or "none"
    return True, f"{', '.join(names)} construct and override; with later models: {more}"


def _holds(attribute: object, wanted: object) -> bool:
    """Whether an attribute is the argument; widths may be stored as a tuple, one for each layer."""
    if isinstance(attribute, tuple):
        widths = list(attribute)
        return widths == (wanted if isinstance(wanted, list) else [wanted] * len(widths))
    return attribute == wanted


def check_optional() -> Result:
    """Optional packages are absent or work: one that does not import is a failure."""
    present = []
    broken = []
    for name in OPTIONAL:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(name)
            present.append(name)
        except Exception as error:
            why = str(error).partition("\n")[0]
            broken.append(f"{name} ({type(error).__name__}: {why})")
    line = (
        f"backend {get_optimal_backend()}; {check_cupy_available()[1]}; "
        f"present: {', '.join(present) or 'none'}"
    )
    return not broken, line + (f"; installed but broken: {', '.join(broken)}" if broken else "")


CHECKS: dict[str, Callable[[], Result]] = {
    "imports": check_imports,
    "model creation": check_models,
    "spectral norm": check_spectral_norm,
    "trainer": check_trainer,
    "kernel": check_kernel,
    "language": check_language,
    "predictive coding": check_predictive,
    "blocks": check_blocks,
    "learning rules": check_rules,
    "look-up tables": check_tables,
    "presets": check_presets,
    "optional features": check_optional,
}


def run_checks() -> list[tuple[str, bool, str]]:
    """(name, ok, line) of every check; one that raises has failed, and the line says with what."""
    results = []
    for name, check in CHECKS.items():
        try:
            ok, line = check()
        except Exception as error:
            ok, line = False, f"{type(error).__name__}: {error}"
        results.append((name, ok, line))
    return results


def main(argv: Sequence[str]) -> int:
    """Print one line a check; 1 when one fails."""
    make_parser("verify", __doc__).parse_args(argv)
    results = run_checks()
    rows = [("ok" if ok else "FAILED", name, line) for name, ok, line in results]
    print("\n".join(text_table(rows)))
    passed = sum(ok for _, ok, _ in results)
    print(f"{passed} of {len(results)} checks passed")
    return 0 if passed == len(results) else 1
