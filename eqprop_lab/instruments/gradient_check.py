"""How right is a gradient, and does a model keep the contract? Tables for people who bring their
own.

    cosine = <g, g*> / (|g| |g*|),   norm_ratio = |g| / |g*|,   relative_error = |g - g*| / |g*|

g* is the derivative of the cost itself by autograd, in float64, through 500 steps from a state
relaxed to 1e-12: it uses no closed form of the model, no formula of the cost's slope and no vector
that a bounded weight follows (sigma is found from the whole matrix), so it finds them wrong. Read
the relative error: a cosine of 0.99 still hides an error of 12 %.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.contrast import INPUT, trained_parameters
from eqprop_lab.equilibrium.costs import make_cost
from eqprop_lab.equilibrium.gradients import (
    NUDGED,
    EstimatedGradients,
    Gradients,
    estimate_gradients,
    make_settings,
    own_estimator,
)
from eqprop_lab.equilibrium.relaxation import relax, settle
from eqprop_lab.equilibrium.requirements import equilibrium_model
from eqprop_lab.equilibrium.state import moving
from eqprop_lab.instruments.exact_sigma import sigma_errors, with_exact_sigma
from eqprop_lab.instruments.validity import Validity, check_nudge
from eqprop_lab.tables import text_table
from eqprop_lab.validation import real

# of the reference: its free phase, and the steps autograd goes through
FREE_STEPS, TOL, STEPS = 20_000, 1e-12, 500


@dataclass(frozen=True)
class Agreement:
    """One parameter's gradient against the reference."""

    cosine: float
    norm_ratio: float
    relative_error: float


class GradientCheck(dict[str, Agreement]):
    """{parameter name: Agreement}; prints as a table, with `notes` below it.

    Beside the estimator stands the parametrisation, {bounded weight: relative error of d sigma/dW}:
    `sigma` of the vectors used here, converged, `sigma_followed` of those a training step uses at
    these weights.
    notes: how far the phases had settled, and whether beta is inside the radius of validity
    (`validity`: None for estimators without a nudge).
    """

    notes: tuple[str, ...] = ()
    validity: Validity | None = None

    def __init__(
        self,
        rows: dict[str, Agreement],
        sigma: dict[str, float] | None = None,
        sigma_followed: dict[str, float] | None = None,
    ) -> None:
        super().__init__(rows)
        self.sigma, self.sigma_followed = sigma or {}, sigma_followed or {}

    @property
    def worst(self) -> float:
        """The largest relative error of all parameters."""
        return max(row.relative_error for row in self.values())

    def __str__(self) -> str:
        head = ("parameter", "cosine", "norm ratio", "relative error")
        rows = [
            (name, f"{r.cosine:.6f}", f"{r.norm_ratio:.6f}", f"{r.relative_error:.2e}")
            for name, r in self.items()
        ]
        sigmas = [
            f"d sigma/dW of {name}: error {error:.1e}, "
            f"followed in training {self.sigma_followed[name]:.1e}"
            for name, error in self.sigma.items()
        ]
        return "\n".join([*text_table([head, *rows], right=(1, 2, 3)), *sigmas, *self.notes])


def exact_gradients(
    model: EquilibriumModel, x: Tensor, y: Tensor, cost: str = "cross_entropy"
) -> Gradients:
    """The gradient of a float64 copy at its fixed point, by autograd. Warns ConvergenceWarning
    where there is none.
    """
    home = _wide(x.device)
    twin = with_exact_sigma(copy.deepcopy(model).to(home).double())
    targets = twin.targets(x, y.double() if y.is_floating_point() else y).to(home)
    inputs = x.to(home).double() if x.is_floating_point() else x.to(home)
    free = relax(twin, inputs, FREE_STEPS, TOL)
    with torch.enable_grad():
        drive = twin.drive(inputs)
        begin = moving(twin.groups, free.state, twin.initial_state(drive))
        end = settle(twin, begin, drive, max_steps=STEPS)
        loss = (
            make_cost(cost, targets, twin.output_dim, end.state[0])
            .value(twin.readout(end.state))
            .mean()
        )
    named = trained_parameters(twin) | ({INPUT: inputs} if x.requires_grad else {})
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def _wide(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it knows no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def agreement(got: Tensor, exact: Tensor) -> Agreement:
    """Compare one gradient with its reference; two zeros agree."""
    g, e = got.detach().cpu().double().flatten(), exact.cpu().double().flatten()
    size, length = float(e.norm()), float(g.norm())
    if size == 0:
        return (
            Agreement(1.0, 1.0, 0.0) if length == 0 else Agreement(0.0, float("inf"), float("inf"))
        )
    cosine = float(g @ e) / (length * size) if length > 0 else 0.0
    return Agreement(cosine, length / size, float((g - e).norm()) / size)


def check_gradient(
    model: EquilibriumModel,
    x: Tensor,
    y: Tensor,
    estimator: str | None = None,
    beta: float | str = 0.03,
    *,
    cost: str = "cross_entropy",
    **phases: Any,
) -> GradientCheck:
    """An estimator's gradient on a batch, as it is used, against the float64 reference.

    phases: free_steps, nudged_steps, tol, solver, points; all arguments and errors as in
    `estimate_gradients`. `print(check_gradient(...))` shows the table.
    """
    model = equilibrium_model(model)
    estimator = own_estimator(model, estimator)
    settings = make_settings(model, beta, estimator=estimator, **phases)
    got = estimate_gradients(model, x, y, estimator, beta, cost=cost, **phases)
    exact = exact_gradients(model, x, y, cost)
    rows = {name: agreement(value, exact[name]) for name, value in got.items()}
    twin = copy.deepcopy(model)  # looking at what a training step would use moves it
    table = GradientCheck(
        rows, sigma_errors(twin, following=False), sigma_errors(twin, following=True)
    )
    table.notes = _notes(got)
    if estimator in NUDGED:
        table.validity = check_nudge(model, x, y, estimator, settings, cost)
        table.notes += (str(table.validity),)
    return table


def _notes(got: EstimatedGradients) -> tuple[str, ...]:
    """What the phases of the estimate were like, by their own measure."""
    return (
        f"free phase: residual {got.free_residual:.1e}, expected error {got.free_error:.1e}",
        f"nudged phase: residual {got.nudged_residual:.1e}, expected error {got.nudged_error:.1e}; "
        f"rounding {got.rounding:.1e}",
    )


@dataclass
class ModelCheck:
    """What `check_model` found: (check, passed, detail) rows; prints as a table."""

    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(passed for _, passed, _ in self.rows)

    def add(self, name: str, look: Callable[[], tuple[bool, str]]) -> None:
        """Run one check; an exception is a failure with its message."""
        try:
            passed, detail = look()
        except Exception as error:  # a user's model may raise anything: the table says what
            passed, detail = False, f"{type(error).__name__}: {error}"
        self.rows.append((name, passed, detail))

    def __str__(self) -> str:
        return "\n".join(
            f"{'ok  ' if passed else 'FAIL'}  {name:<10}  {detail}"
            for name, passed, detail in self.rows
        )


def check_model(model: EquilibriumModel, x: Tensor, y: Tensor, beta: float = 0.01) -> ModelCheck:
    """Contract, settling, gradient and leak of a model of your own, on one batch of at least two
    samples.

    contract: shapes of drive, state, force and logits fit together, `groups` name every block once,
    activation 1-Lipschitz and monotone. settling: the default number of steps reaches a residual of
    1e-3, and another start the same state. gradient: `centered` or `asymmetric` is within 1 % of
    the reference. leak: no sample's logits depend on another sample, and where rows are tokens no
    logits on a later token, to the last bit. Returns a ModelCheck; `assert check_model(...).ok` in
    a test.
    """
    beta, check = real("beta", beta, above=0.0), ModelCheck()
    twin = copy.deepcopy(model).double()
    inputs = x.double() if x.is_floating_point() else x
    check.add("contract", lambda: _contract(twin, inputs))
    check.add("settling", lambda: _settling(twin, inputs))
    check.add("gradient", lambda: _gradient(twin, inputs, y, beta))
    check.add("leak", lambda: _leak(twin, inputs))
    return check


def _contract(model: EquilibriumModel, x: Tensor) -> tuple[bool, str]:
    drive = model.drive(x)
    state = model.initial_state(drive)
    force, logits = model.force(state, drive), model.readout(state)
    named = sorted(block for group in model.groups for block in group)
    # rows along the diagonal, and the same with one coordinate moved: N_00 of any activation
    values = torch.linspace(-3, 3, 61, dtype=state[0].dtype, device=state[0].device)
    a = values[:, None].expand(-1, state[0][0].numel())
    b = torch.cat([a[:, :1] + 0.01, a[:, 1:]], 1)
    one, two = (model.activate(rows.reshape(-1, *state[0].shape[1:])) for rows in (a, b))
    slope = (two - one).flatten(1)[:, 0] / 0.01
    problems = [
        message
        for wrong, message in (
            (
                [s.shape for s in state] != [f.shape for f in force],
                "force and state differ in shape",
            ),
            (
                len(logits) not in (len(x), len(state[0])) or logits.shape[-1] != model.output_dim,
                "logits are not (B, output_dim), or one row a token",
            ),
            (
                len(set(named)) < len(named) or not set(named) <= set(range(len(state))),
                f"groups {model.groups} name a block twice, or one that there is not",
            ),
            (
                len(model.kappa) != len(state) or min(model.kappa) <= 0,
                "kappa needs one positive weight a block",
            ),
            (
                bool((slope < -1e-9).any() or (slope > 1 + 1e-6).any()),
                "activation not monotone and 1-Lipschitz",
            ),
        )
        if wrong
    ]
    return not problems, "; ".join(
        problems
    ) or f"{len(state)} block(s), logits {tuple(logits.shape)}"


def _settling(model: EquilibriumModel, x: Tensor) -> tuple[bool, str]:
    end = relax(model, x)
    shaken = tuple(-block for block in end.state)
    there = relax(model, x, 100 * model.max_steps)
    other = relax(model, x, 100 * model.max_steps, start=shaken)
    apart = max(float((a - b).abs().max()) for a, b in zip(there.state, other.state, strict=True))
    detail = (
        f"residual {end.residual:.1e} after {end.steps} steps, two starts end {apart:.1e} apart"
    )
    return end.residual <= 1e-3 and apart <= 1e-6, detail


def _gradient(model: EquilibriumModel, x: Tensor, y: Tensor, beta: float) -> tuple[bool, str]:
    exact = exact_gradients(model, x, y)
    errors = {}
    for estimator in ("centered", "asymmetric"):
        got = estimate_gradients(
            model, x, y, estimator, beta, free_steps=2000, nudged_steps=2000, tol=1e-10
        )
        errors[estimator] = max(
            agreement(got[name], value).relative_error for name, value in exact.items()
        )
    best = min(errors, key=lambda name: errors[name] > 0.01)
    return errors[best] <= 0.01, ", ".join(
        f"{name} error {value:.1e}" for name, value in errors.items()
    )


def _leak(model: EquilibriumModel, x: Tensor) -> tuple[bool, str]:
    if len(x) < 2:
        return False, "needs a batch of at least two samples"
    with torch.no_grad():
        together, alone = model(x)[:1], model(x[:1])
    change = float((together - alone).abs().max())
    told = f"a sample's logits change by {change:.1e} in other company"
    if model.tokens(x) is None or x.shape[1] < 2:
        return change <= 1e-9, told
    ahead = _ahead(model, x)
    return change <= 1e-9 and ahead == 0, f"{told}, a token's by {ahead:.1e} with another last one"


@torch.no_grad()
def _ahead(model: EquilibriumModel, x: Tensor) -> float:
    """How much the rows before the last token change with it. Raises ValueError where a sequence
    has no other token to put there.
    """
    other, differs = x.clone(), (x != x[:, -1:]).reshape(*x.shape[:2], -1).any(2)
    if not bool(differs.any(1).all()):
        raise ValueError("needs sequences in which a token differs from the last one")
    other[:, -1] = x[torch.arange(len(x), device=x.device), differs.int().argmax(1)]
    one, two = (
        model.readout(relax(model, batch).state).unflatten(0, x.shape[:2])[:, :-1]
        for batch in (x, other)
    )
    return float((one - two).abs().max())
