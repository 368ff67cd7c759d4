"""Checks of `EqPropKernel` on CuPy: the numbers are NumPy's and torch's, and what a step costs.

On a CPU the same checks run with NumPy arrays, which shows that they run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from eqprop_lab.gpu.cifar import Options
from eqprop_lab.gpu.limits import against_limits, free_memory, measured_limits, milliseconds_of
from eqprop_lab.kernel import EqPropKernel
from eqprop_lab.kernel.blas import WORKSPACE
from eqprop_lab.kernel.bound import symmetric_part
from eqprop_lab.kernel.estimating import OUT_BIAS, REC
from eqprop_lab.models import LoopedMLP
from eqprop_lab.training import EqPropTrainer

FEATURES, CLASSES, FREE, NUDGED = 784, 10, 30, 10
HIDDEN = 256  # where nothing else is said
SIZES = ((256, 64), (512, 256), (2048, 1024), (8192, 4096))  # hidden units, batch
NUMPY_UP_TO = 2048
UNBOUNDED_FROM = 8192  # hidden units; all eigenvectors of such a matrix take longer than the check
# Relative errors allowed: the contrast divides the rounding of sums by beta.
LIMITS = {
    "float64": {"free": 1e-11, "response": 1e-10, "centered": 1e-9, "weights": 1e-9},
    "float32": {"free": 1e-5, "response": 1e-4, "centered": 5e-3, "weights": 1e-3},
}
# of the trainer: hidden units, steps, error allowed
CASES = (("float64", 48, 20, 1e-8), ("float64", 256, 1, 1e-9), ("float32", 48, 20, 1e-3))
STEPS = (10, 30, 100, 300, 1000)
Figures = dict[str, Any]


def arrays_of(device: torch.device) -> str:
    """The arrays of a device, by the kernel's name for them."""
    return "cupy" if device.type == "cuda" else "numpy"


def batch_of(kernel: EqPropKernel, rows: int = 64, seed: int = 0) -> tuple[Any, Any]:
    """(x, y) as arrays of the kernel's device."""
    draw = np.random.default_rng(seed)
    x = draw.random((rows, kernel.input_dim)).astype(kernel.dtype)
    return kernel.xp.asarray(x), kernel.xp.asarray(np.arange(rows) % CLASSES)


def on_host(array: Any) -> np.ndarray:
    """As an array of NumPy, in float64."""
    return np.asarray(array.get() if hasattr(array, "get") else array, np.float64)


def error(one: Any, other: Any) -> float:
    """||one - other|| / ||other||, both on the host."""
    a, b = on_host(one), on_host(other)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def worst(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The largest error of any array of the same name."""
    return max(error(one[name], value) for name, value in other.items())


def made(device: torch.device, hidden: int | None = None, **options: Any) -> EqPropKernel:
    """A kernel on the device, from the same seed every time."""
    arrays = arrays_of(device)
    return EqPropKernel(FEATURES, hidden or HIDDEN, CLASSES, arrays=arrays, seed=0, **options)


def kernel_parity(device: torch.device, options: Options | None = None) -> Figures:
    """CuPy against NumPy at 784-256-10, batch 64: worst relative error of each kind."""
    figures: Figures = {"ok": True}
    for dtype, limits in LIMITS.items():
        found = {
            "free": _apart(device, dtype, lambda k, x, y: {"logits": k.logits(x)}),
            "response": _apart(device, dtype, lambda k, x, y: k.gradients(x, y), "response"),
            "centered": _apart(device, dtype, lambda k, x, y: k.gradients(x, y)),
            "weights": _apart(device, dtype, _trained),
        }
        figures |= {f"{dtype}_{name}": value for name, value in found.items()}
        figures["ok"] = figures["ok"] and all(found[name] <= limits[name] for name in found)
    net = made(device)
    x, y = batch_of(net)
    losses = [net.train_step(x, y)["loss"] for _ in range(20)]
    figures |= {"followed_norm": net.contraction_bound(), "loss_ratio": losses[-1] / losses[0]}
    figures["ok"] = figures["ok"] and figures["followed_norm"] < net.rho and losses[-1] < losses[0]
    return figures


def _apart(
    device: torch.device, dtype: str, read: Callable[..., Mapping[str, Any]],
    estimator: str = "centered",
) -> float:  # fmt: skip
    found = []
    for place in (device, torch.device("cpu")):
        kernel = made(
            place, dtype=dtype, estimator=estimator, optimizer="sgd", lr=1e-2, sigma="converged"
        )
        found.append(read(kernel, *batch_of(kernel)))
    return worst(*found)


def _trained(kernel: EqPropKernel, x: Any, y: Any) -> Mapping[str, Any]:
    for _ in range(20):
        kernel.train_step(x, y)
    return kernel.parameters


def kernel_trainer(device: torch.device, options: Options | None = None) -> Figures:
    """`use_kernel=True` against the torch path on the device: weights after training steps.

    Up to 64 units sigma's vector is the converged one; wider nets follow it with vectors drawn by
    the bits of the weights, so that only their first step is the same.
    """
    figures: Figures = {"ok": True}
    for dtype, hidden, steps, limit in CASES:
        found = []
        for on in (True, False):
            trainer = _trainer(device, hidden, getattr(torch, dtype), use_kernel=on)
            x, y = _tensors(device, 64, getattr(torch, dtype))
            for _ in range(steps):
                trainer.train_batch(x, y)
            found.append({n: p.detach().cpu() for n, p in trainer.model.named_parameters()})
        apart = worst(*found)
        figures[f"{dtype} {hidden} units, {steps} steps"] = apart
        figures["ok"] = figures["ok"] and apart <= limit
    return figures


def _trainer(
    device: torch.device, hidden: int, dtype: torch.dtype = torch.float32, **options: Any
) -> EqPropTrainer:
    # A CPU would be long about the norms of large matrices.
    with device if hidden > 512 else torch.device("cpu"):
        model = LoopedMLP(FEATURES, hidden, CLASSES, hidden < UNBOUNDED_FROM, seed=0)
    model.to(device, dtype)
    return EqPropTrainer(
        model, "centered", "sgd", free_steps=FREE, nudged_steps=NUDGED, progress=False, **options
    )


def _tensors(
    device: torch.device, rows: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, FEATURES, generator=generator).to(device, dtype)
    return x, (torch.arange(rows) % CLASSES).to(device)


def kernel_graph(device: torch.device, options: Options | None = None) -> Figures:
    """Trained with recorded steps and without, batches of three sizes: largest relative error."""
    if device.type != "cuda":
        return {"ok": True, "skipped": "a CPU launches no graphs"}
    figures: Figures = {"ok": True}
    for estimator in ("centered", "response"):
        nets = [made(device, estimator=estimator, graph=graph) for graph in (True, False)]
        for seed, rows in enumerate((64, 64, 40, 64, 40, 96, 64)):
            reports = [net.train_step(*batch_of(net, rows, seed)) for net in nets]
        apart = worst(nets[0].parameters, nets[1].parameters)
        figures[f"{estimator}_error"] = apart
        figures[f"{estimator}_loss_error"] = abs(reports[0]["loss"] / reports[1]["loss"] - 1)
        figures["ok"] = figures["ok"] and apart <= 1e-6
    return figures


def kernel_memory(device: torch.device, options: Options | None = None) -> Figures:
    """MiB of the memory pool that a training step takes, 784-512-10 at batch 256, by steps.

    steps: as many free as nudged. "device": what is gone from the card, the graph's own included.
    """
    if device.type != "cuda":
        return {"ok": True, "skipped": "tests/kernel measure the memory of NumPy"}
    import cupy

    figures: Figures = {"ok": True}
    for graph in (False, True):
        pools = []
        for steps in STEPS:
            free_memory(device)
            before = cupy.cuda.runtime.memGetInfo()[0]
            pool = cupy.get_default_memory_pool()
            start = pool.total_bytes()
            net = made(device, 512, free_steps=steps, nudged_steps=steps, graph=graph)
            for seed in range(2):
                net.train_step(*batch_of(net, 256, seed))
            recorder = net.estimator.recorder
            own = 0 if recorder is None else recorder.pool.total_bytes()
            pools.append((pool.total_bytes() - start + own) / 2**20)
            name = f"{'graph ' if graph else ''}{steps} steps"
            figures[f"{name}_mib"] = pools[-1]
            gone = before - cupy.cuda.runtime.memGetInfo()[0]
            figures[f"{name}_device_mib"] = gone / 2**20
            del net, recorder
        # of what the step itself takes: the workspace of cuBLAS is always there
        states = max(pools) - WORKSPACE / 2**20
        figures["ok"] = figures["ok"] and max(pools) - min(pools) <= 0.01 * states
    return figures


def kernel_time(device: torch.device, options: Options | None = None) -> Figures:
    """Milliseconds of a centered training step, 30 free and 10 nudged, by size and path.

    "products": the bare products of the step by torch, one after the other and as one graph.
    """
    figures: Figures = {"ok": True, "limits": measured_limits(device)}
    for hidden, batch in SIZES if device.type == "cuda" else SIZES[:2]:
        row = _timed(device, hidden, batch)
        shape = {"features": FEATURES, "hidden": hidden, "classes": CLASSES, "batch": batch}
        shape |= {"free": FREE, "nudged": NUDGED}
        mine = [row[key] for key in ("kernel_ms", "kernel_graph_ms") if key in row]
        row |= against_limits(min(mine, default=math.nan), shape, figures["limits"])
        figures[f"784-{hidden}-10 batch {batch}"] = row
        figures["ok"] = figures["ok"] and not any(isinstance(v, str) for v in row.values())
    return figures


def _timed(device: torch.device, hidden: int, batch: int) -> Figures:
    """Each path by name: milliseconds, or what it raised; one is made after the other is gone."""
    paths: dict[str, Callable[[], Callable[[], object]]] = {
        "kernel_ms": lambda: _kernel_step(device, hidden, batch),
        "products_ms": lambda: products(device, hidden, batch),
    }
    if device.type == "cuda":
        paths["products_graph_ms"] = lambda: replayed(products(device, hidden, batch))
        paths["kernel_graph_ms"] = lambda: _kernel_step(device, hidden, batch, graph=True)
        if hidden <= NUMPY_UP_TO:
            cpu = torch.device("cpu")
            paths["numpy_ms"] = lambda: _kernel_step(cpu, hidden, batch)
    paths["torch_ms"] = lambda: _torch_step(device, hidden, batch)
    paths["use_kernel_ms"] = lambda: _torch_step(device, hidden, batch, use_kernel=True)
    row: Figures = {}
    for name, path in paths.items():
        try:
            row[name] = milliseconds_of(path(), device)
        except Exception as error:
            row[name.removesuffix("_ms") + "_failed"] = f"{type(error).__name__}: {error}"[:300]
        free_memory(device)
    return row


def kernel_parts(device: torch.device, options: Options | None = None) -> Figures:
    """Milliseconds of what a step of the kernel consists of, each waited for, by size."""
    figures: Figures = {"ok": True}
    for hidden, batch in SIZES if device.type == "cuda" else SIZES[:1]:
        row = {}
        for name, run in _parts(device, hidden, batch).items():
            row[f"{name}_ms"] = milliseconds_of(run, device, 10, 2, 0.5)
        figures[f"784-{hidden}-10 batch {batch}"] = row
        free_memory(device)
    return figures


def _parts(device: torch.device, hidden: int, batch: int) -> dict[str, Callable[[], object]]:
    recorded = device.type == "cuda"
    bounded = hidden < UNBOUNDED_FROM
    net = made(device, hidden, optimizer="sgd", use_spectral_norm=bounded, graph=recorded)
    x, y = batch_of(net, batch)
    net.train_step(x, y)
    estimator, ops = net.estimator, net.estimator.ops
    work, space, matrix = estimator.space.of(batch), estimator.space, net.parameters[REC]
    targets, v = net.targets(y, batch), net._vector()
    steps, now, then = estimator.nudged, work.pair, work.then

    def moved() -> None:
        matrix[...] = matrix * (1 + 1e-5)
        net._vector()

    parts: dict[str, Callable[[], object]] = {
        "inputs": lambda: net._inputs(x),
        "targets": lambda: net.targets(y, batch),
        "vector": moved,
        "estimate": lambda: estimator.estimate(x, targets, net.parameters, net.how, v),
        "update": lambda: net.optimizer.step(net._flat, net._slopes),
        "product": lambda: ops.product(work.free, space.effective, work.other),
        "activate": lambda: estimator.free.activate(work.other, work.drive, work.other),
        "readout": lambda: ops.product(space.readout, now.state.T, work.logits),
        "slopes": lambda: ops.nudged_slopes(targets, net.parameters[OUT_BIAS], now, work),
        "both_product": lambda: ops.product(now.whole, space.coupling, then.state),
        "both_activate": lambda: steps.activate(work.spare_both, work.drive, then.both),
        "symmetric": lambda: symmetric_part(matrix, space.symmetric, ops, space.product),
    }
    if estimator.recorder is not None:
        graph = next(iter(estimator.recorder.graphs.values()))[0]
        parts["launch"] = graph.launch
    return parts


def _kernel_step(
    device: torch.device, hidden: int, batch: int, **options: Any
) -> Callable[[], object]:
    bounded = hidden < UNBOUNDED_FROM
    net = made(device, hidden, optimizer="sgd", lr=1e-4, use_spectral_norm=bounded, **options)
    x, y = batch_of(net, batch)
    return functools.partial(net.train_step, x, y)


def _torch_step(
    device: torch.device, hidden: int, batch: int, **options: Any
) -> Callable[[], object]:
    trainer = _trainer(device, hidden, lr=1e-4, **options)
    return functools.partial(trainer.train_batch, *_tensors(device, batch))


def products(device: torch.device, hidden: int, batch: int) -> Callable[[], None]:
    """Exactly the products of a centered step, into results that are there already."""
    some = functools.partial(torch.randn, device=device)
    x, h, pair = some(batch, FEATURES), some(batch, hidden), some(2 * batch, hidden + CLASSES)
    w_in, w, w_out = some(FEATURES, hidden), some(hidden, hidden), some(hidden, CLASSES)
    coupling = some(hidden + CLASSES, hidden)
    u, a, z = some(batch, hidden), some(2 * batch, hidden), some(2 * batch, CLASSES)
    g_in, g, g_out = some(hidden, FEATURES), some(hidden, hidden), some(CLASSES, hidden)

    def run() -> None:
        torch.mm(x, w_in, out=u)
        for _ in range(FREE):
            torch.mm(h, w, out=u)
        torch.mm(u, w_out, out=z[:batch])
        for _ in range(NUDGED):
            torch.mm(a, w_out, out=z)
            torch.mm(pair, coupling, out=a)
        torch.mm(h.T, x, out=g_in)
        torch.mm(h.T, h, out=g)
        torch.mm(z[:batch].T, h, out=g_out)

    return run


def replayed(run: Callable[[], None]) -> Callable[[], None]:
    """The calls as one CUDA graph of torch's."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    replay: Callable[[], None] = graph.replay
    return replay


def kernel_compiled(device: torch.device, options: Options | None = None) -> Figures:
    """A torch step with `use_compile=True` at 784-512-10, batch 256: first call and later ones."""
    step = _torch_step(device, 512, 256, use_compile=True)
    first = milliseconds_of(step, device, 1, 0)
    return {"ok": True, "first_ms": first, "compiled_ms": milliseconds_of(step, device)}
