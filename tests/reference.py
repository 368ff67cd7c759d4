"""The float64 reference gradient of LoopedMLP by the adjoint method, in NumPy. It shares no code
with the estimators.

h = tanh(W h + u);   a = D (g + W^T a),  D = diag(1 - h^2),  g = W_out^T (softmax(z) - t)
dL/dW = mean a h^T,  dL/dW_in = mean a x^T,  dL/db = mean a
W = S f(sigma),  f = (1 + (m sigma/c)^2)^(-1/2),  sigma = ||S||,  dsigma/dS = u v^T
dL/dS = f G + <G, S> f'(sigma) dsigma/dS,  dL/dA = sym(dL/dS) (directed: dL/dS)
"""

from __future__ import annotations

import numpy as np
import torch

from eqprop_lab import LoopedMLP

MARGIN = 1.02


def adjoint_gradients(model: LoopedMLP, x: torch.Tensor, y: torch.Tensor) -> dict[str, np.ndarray]:
    """{parameter name: dL/dparameter}, L the mean cross-entropy at the exact fixed point."""
    p = {
        name: value.detach().numpy().astype(np.float64)
        for name, value in model.state_dict().items()
    }
    bounded = model.W_rec.parametrizations.weight[0]
    original = p["W_rec.parametrizations.weight.original"]
    s = (original + original.T) / 2 if bounded.symmetric else original
    if bounded.cap is None:
        scale, slope, by_sigma = 1.0, 0.0, np.zeros_like(s)
    else:
        left, sizes, right = np.linalg.svd(s)  # of its own: nothing that the model tracks
        sigma, by_sigma = sizes[0], np.outer(left[:, 0], right[0])
        scale = (1 + (MARGIN * sigma / bounded.cap) ** 2) ** -0.5
        slope = -(scale**3) * MARGIN**2 * sigma / bounded.cap**2
    w = s * scale

    inputs = x.reshape(len(x), -1).numpy().astype(np.float64)
    labels = y.numpy()
    u = inputs @ p["W_in.weight"].T + p["W_in.bias"] + p["W_rec.bias"]
    h = np.zeros_like(u)
    for _ in range(20_000):
        before, h = h, np.tanh(h @ w.T + u)
        if np.abs(h - before).max() < 1e-15:
            break
    z = h @ p["W_out.weight"].T + p["W_out.bias"]
    error = np.exp(z - z.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    gain = 1 - h**2
    g = error @ p["W_out.weight"]
    eye = np.eye(len(w))
    a = np.stack(
        [np.linalg.solve(eye - d[:, None] * w.T, d * row) for d, row in zip(gain, g, strict=True)]
    )

    n = len(x)
    by_w = a.T @ h / n
    by_s = scale * by_w + np.sum(by_w * s) * slope * by_sigma
    return {
        "W_in.weight": a.T @ inputs / n,
        "W_in.bias": a.mean(0),
        "W_rec.bias": a.mean(0),
        "W_rec.parametrizations.weight.original": (by_s + by_s.T) / 2
        if bounded.symmetric
        else by_s,
        "W_out.weight": error.T @ h / n,
        "W_out.bias": error.mean(0),
    }


def relative_errors(
    got: dict[str, torch.Tensor], expected: dict[str, np.ndarray]
) -> dict[str, float]:
    """||got - expected|| / ||expected|| per parameter; the two must name the same parameters."""
    assert got.keys() == expected.keys()
    return {
        k: float(np.linalg.norm(got[k].numpy() - e) / np.linalg.norm(e))
        for k, e in expected.items()
    }
