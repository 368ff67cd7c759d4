"""The check "tf32": what TF32 products do to the time of a training step and to its gradient.

    error = ||g - g64|| / ||g64||,    g64: the same estimate in float64

TF32 keeps ten bits of a mantissa, and the contrast of two phases divides what is lost by beta.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eqprop_lab.acceleration import enable_tf32
from eqprop_lab.equilibrium.gradients import estimate_gradients
from eqprop_lab.gpu.cifar import Options
from eqprop_lab.gpu.limits import milliseconds_of
from eqprop_lab.models import LoopedMLP
from eqprop_lab.training import EqPropTrainer

SIZES = ((512, 256), (2048, 1024))  # hidden units, batch
BETAS = (0.1, 0.5)
LIMIT = 5e-3  # of the error without TF32


def tf32(device: torch.device, options: Options | None = None) -> dict[str, Any]:
    """Milliseconds of a centered step and error of its gradient, without TF32 and with it.

    What the switches were before is set again.
    """
    before = torch.backends.cuda.matmul.fp32_precision == "tf32"
    figures: dict[str, Any] = {"ok": True}
    try:
        for hidden, batch in SIZES:
            name = f"784-{hidden}-10 batch {batch}"
            figures[name] = _compared(hidden, batch, device)
            ieee = figures[name]["float32"]
            figures["ok"] &= max(ieee[f"error_beta_{beta}"] for beta in BETAS) <= LIMIT
    finally:
        enable_tf32(before)
    return figures


def _compared(hidden: int, batch: int, device: torch.device) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 784, generator=generator).to(device)
    y = (torch.arange(batch) % 10).to(device)
    model = LoopedMLP(784, hidden, 10, seed=0).to(device)
    exact = {beta: _gradient(model.double(), x.double(), y, beta) for beta in BETAS}
    model.float()
    trainer = EqPropTrainer(LoopedMLP(784, hidden, 10, seed=0), device=device, progress=False)
    found = {}
    for name, enabled in (("float32", False), ("tf32", True)):
        enable_tf32(enabled)
        found[name] = {"ms": milliseconds_of(lambda: trainer.train_batch(x, y), device)}
        for beta in BETAS:
            apart = (_gradient(model, x, y, beta) - exact[beta]).norm() / exact[beta].norm()
            found[name][f"error_beta_{beta}"] = float(apart)
    return found


def _gradient(model: LoopedMLP, x: Tensor, y: Tensor, beta: float) -> Tensor:
    """All parameters' centered estimates behind one another, in float64 on the CPU."""
    gradients = estimate_gradients(model, x, y, "centered", beta=beta)
    return torch.cat([g.double().cpu().flatten() for g in gradients.values()])
