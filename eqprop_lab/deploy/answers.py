"""One network as a server has it: questions in, plain values out, from any number of threads.

    answer = readout(s*),   s* = relax(model, x, max_steps, tol)

An answer is what `relax` and `readout` give for the same batch without gradients on as many threads
of torch, bit for bit in float32: another batch, another number of threads or a graph, and products
are summed in another order. So requests are not joined into larger batches.
The weights a relaxation reads are its own (`frozen_weights`), so that threads share the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.deploy.questions import Refused, batch, tokens
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import DivergenceError, relaxed
from eqprop_lab.equilibrium.state import State
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.models.language.generation import Generates
from eqprop_lab.validation import shown

TOL, STEPS = 1e-4, 300  # of a relaxation, where a question says nothing
MOST_STEPS = 10_000


@dataclass(frozen=True)
class Limits:
    """What a server gives at most. batch: samples of a request. body: bytes of one. seconds: from
    its arrival to its answer. tokens: new ones of a text. waiting: requests that are in work or
    wait for it. workers: threads that compute.
    """

    batch: int = 64
    body: int = 8 * 2**20
    seconds: float = 30.0
    tokens: int = 1000
    waiting: int = 1000
    workers: int = 2


class _Until:
    """A model whose relaxation ends at a time; everything else is the model's own."""

    def __init__(self, model: EquilibriumModel, deadline: float) -> None:
        self._model, self._deadline = model, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, *args: Any, **options: Any) -> State:
        check_time(self._deadline)
        return self._model.step(*args, **options)


def check_time(deadline: float) -> None:
    """Raise Refused when it is past."""
    if time.monotonic() > deadline:
        raise Refused(503, "time", "the time limit of a request is over; ask for less at once")


class Served:
    """A network under a name; eval mode, weights that nobody changes any more.

    Attributes: model, name, trained, sha256 (of weights and buffers, as `fingerprint`), kind: of
        "tokens" and "images", what it reads; writes: whether it generates text; inside: whether
        networks settle inside it, of which nothing is known (blocks, members of an ensemble).
    """

    def __init__(self, name: str, model: nn.Module, trained: bool = True) -> None:
        self.name, self.model, self.trained = name, model.eval(), trained
        self.sha256 = fingerprint(model)
        self.kind = "tokens" if isinstance(model, Generates) else "images"
        self.writes = isinstance(model, Generates) and model.num_classes is None
        settling = any(isinstance(module, EquilibriumModel) for module in model.modules())
        self.inside = settling and not isinstance(model, EquilibriumModel)
        self.parameters = sum(p.numel() for p in model.parameters())

    def about(self) -> dict[str, Any]:
        """What `/health` says of it."""
        return {
            "class": type(self.model).__name__,
            "reads": self.kind,
            "generates": self.writes,
            "settles": self.inside or isinstance(self.model, EquilibriumModel),
            "parameters": self.parameters,
            "trained": self.trained,
            "weights_sha256": self.sha256,
        }

    def predict(
        self,
        inputs: list[Any],
        deadline: float = math.inf,
        most: int = Limits.batch,
        tol: float = TOL,
        max_steps: int = STEPS,
    ) -> dict[str, Any]:
        """{classes, logits, residual, steps, converged, error_bound, model, weights_sha256}.

        Of a language model: those of the next token. None stands for what there is not: a
        feed-forward network settles nothing, and few have a certificate.
        Raises Refused.
        """
        x = self._batch(inputs, most)
        check_time(deadline)
        try:
            with torch.no_grad():
                logits, found = self._logits(x, deadline, tol, max_steps)
        except DivergenceError as error:
            raise Refused(422, "inputs", f"must be smaller: {error}") from error
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise Refused(422, "inputs", _fitting(error)) from error
        if logits.ndim != 2 or len(logits) != len(x):
            shape = tuple(logits.shape)
            said = (
                f"must be a batch (B, ...) that gives logits (B, K), {tuple(x.shape)} gave {shape}"
            )
            raise Refused(422, "inputs", said)
        if not bool(torch.isfinite(logits).all()):
            raise Refused(422, "inputs", "must be smaller: the logits are not finite")
        return {
            "classes": logits.argmax(1).tolist(),
            "logits": logits.tolist(),
            **found,
            "model": self.name,
            "weights_sha256": self.sha256,
        }

    def _batch(self, inputs: list[Any], most: int) -> Tensor:
        if isinstance(self.model, Generates):
            return tokens(inputs, self.model, most)
        held = [*self.model.parameters(), *self.model.buffers()]
        like = next((t for t in held if t.is_floating_point()), torch.zeros((), device="cpu"))
        return batch(inputs, like.detach(), most)

    def _logits(
        self, x: Tensor, deadline: float, tol: float, max_steps: int
    ) -> tuple[Tensor, dict[str, Any]]:
        model = self.model
        nothing = dict.fromkeys(("residual", "steps", "converged", "error_bound"))
        if not isinstance(model, EquilibriumModel):
            logits = model(x)
            return (logits[:, -1] if self.writes else logits), nothing
        model.check_batch(x)
        end = relaxed(_Until(model, deadline), x, max_steps, tol)
        logits = model.readout(end.state)
        found = {
            "residual": end.residual,
            "steps": end.steps,
            "converged": end.converged,
            "error_bound": end.error_bound if math.isfinite(end.error_bound) else None,
        }
        return (logits[x.shape[1] - 1 :: x.shape[1]] if self.writes else logits), found

    def generate(self, told: Callable[[str], object], deadline: float, **options: Any) -> str:
        """The text that goes on from `prompt`, told piece by piece. Raises Refused."""

        def piece(text: str) -> None:
            check_time(deadline)
            told(text)

        if not self.writes:
            raise Refused(422, "model", f"must write text, {self.name} gives classes")
        assert isinstance(self.model, Generates)
        try:
            return self.model.generate(stream=piece, **options)
        except (TypeError, ValueError) as error:
            field = str(error).split(maxsplit=1)[0].rstrip(":")
            known = field if field in options else "prompt"
            raise Refused(422, known, str(error)) from error


def _fitting(error: Exception) -> str:
    """What a model says of inputs that it does not take."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"must be a batch that the model takes: {shown(text)[1:-1]}"
