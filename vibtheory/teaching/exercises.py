"""Exercises that answer back: a table of them by number, each with its truth, computed when asked for, and a hint.

A notebook has a cell `check("01.2", answer)` behind each question; the solutions stand in notebooks/solutions/.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vibtheory import information, theory
from vibtheory.errors import check_choice
from vibtheory.teaching.records import JOINT

__all__ = ["EXERCISES", "Answer", "Exercise", "check"]


@dataclass(frozen=True)
class Exercise:
    """What an answer is compared with.

    Attributes:
        truth: computes it: a number, or a word.
        hint: for who is wrong; it does not give the answer away.
        tolerance: how far a number may be off.
    """

    truth: Callable[[], Any]
    hint: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What `check` says; true if the answer is right.

    Attributes:
        right: None where nothing was answered yet.
        words: what a student reads.
    """

    right: bool | None
    words: str

    def __bool__(self) -> bool:
        return bool(self.right)

    def __repr__(self) -> str:
        return self.words


def check(name: str, answer: Any) -> Answer:
    """Compare a student's answer with the exercise's truth.

    Args:
        name: the exercise's number, "01.2".
        answer: a number or a word; None: not answered yet.

    Raises:
        InvalidInputError: no such exercise.
    """
    check_choice("name", name, EXERCISES)
    exercise = EXERCISES[name]
    if answer is None:
        return Answer(None, f"{name}: put your answer in the place of None, and run the cell.")
    truth = exercise.truth()
    if isinstance(truth, str):
        right, how = str(answer).strip(" .'\"“”‘’").lower() == truth.lower(), ""
    else:
        try:  # an array, a list or a tensor that holds one number, too
            given = float(np.asarray(answer.detach() if hasattr(answer, "detach") else answer, dtype=float).item())
        except (TypeError, ValueError, OverflowError):
            return Answer(False, f"{name}: a number is asked for, one alone, such as 0.25.")
        right = bool(abs(given - truth) <= exercise.tolerance)
        how = ", too small" if given < truth else ", too large" if given > truth else ""
    return Answer(right, f"{name}: right." if right else f"{name}: not yet{how}. Hint: {exercise.hint}")


def _drift() -> str:
    """Of a gate's α where noise costs (μ − 1)² + σ² and information nothing: gradient descent lowers σ."""
    mu, sigma = 1.0, 0.1
    moved = (mu - 0.1 * 2 * (mu - 1)) ** 2 / (sigma - 0.1 * 2 * sigma) ** 2
    return "up" if moved > mu**2 / sigma**2 else "down"


def _first_relevance() -> float:
    """Where the trivial encoder of a correlated Gaussian pair (ρ = 0.7), on a fine grid, becomes unstable."""
    x = np.linspace(-4, 4, 41)
    density = np.exp(-(x[:, None] ** 2 - 1.4 * x[:, None] * x + x**2) / (2 * (1 - 0.49)))
    return information.stability_beta(density / density.sum())


def _best_prior() -> float:
    """The prior variance of least expected divergence, by search, for f uniform on [0, 2]."""
    f = np.linspace(1e-3, 2 - 1e-3, 1000)[:, None]
    candidates = np.linspace(0.9, 1.2, 301)
    costs = [information.expected_kl(f, [0.8], [0.4], [xi]) for xi in candidates]
    return float(candidates[int(np.argmin(costs))])


def _identity_of_one_unit() -> str:
    """The estimate that is exact for a layer of one unit."""
    f = np.linspace(0.1, 2.5, 60)
    exact = information.scalar_gated_channel(f, 1.0, 0.3)
    channel = information.GatedChannel(f[:, None], mu=1.0, sigma=0.3)
    names = ("infonce", "leave_one_out", "pairwise", "pairwise_bhattacharyya", "per_unit")
    return min(names, key=lambda name: abs(information.estimate(channel, name).nats - exact))


def _fully_connected(kept: tuple[int, ...]) -> Any:
    from vibtheory.compression.metrics import fully_connected

    return fully_connected((784, 300, 100, 10), kept)


def _gate(mean: float = 1.0, log_variance: float = -9.0) -> Any:
    from vibtheory.networks.gates import Gate

    return Gate(1, mean=mean, log_variance=log_variance)


def _gate_name() -> str:
    import torch
    from torch import nn

    import vibtheory as vt
    from vibtheory.networks.gates import named_gates
    from vibtheory.networks.streams import random_state_kept

    with random_state_kept():
        plain = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2))
        return next(iter(named_gates(vt.insert_gates(plain, torch.zeros(2, 6)))))


def _adam_step() -> float:
    """How far Adam's first step moves a parameter of any gradient."""
    import torch

    gate = _gate()
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.02)
    gate.information().backward()
    optimizer.step()
    return float(gate.log_var.detach()) + 9.0


def _first_opening() -> float:
    """The largest price at which a gate of notebook 04's typed-in matrix is open, from its path."""
    A = np.array([[1.0, 0.8, 0.2, -0.5, 0.3, 0.9], [0.2, 0.7, 1.0, 0.4, -0.6, 0.1], [0.5, -0.3, 0.6, 1.0, 0.2, 0.4]])
    bound = theory.QuadraticBound(A, b=-2 * A.T @ [1.5, 1.0, -0.8], gamma=0.02)
    return theory.sparsity_path(bound, np.geomspace(8.0, 2.0, 8)).events[0].gamma


def _closing_price() -> float:
    """From which price on μ = 0 is known to be the trap's only stationary point, by bisection."""
    low, high = 0.1, 100.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        trap = theory.QuadraticBound(np.ones((1, 3)), b=[-4.0] * 3, gamma=middle)
        low, high = (low, middle) if theory.check_closure(trap).verdict == "only stationary point" else (middle, high)
    return high


def _orthogonal(beta: list[float], gamma: float) -> theory.QuadraticBound:
    return theory.QuadraticBound(np.eye(len(beta)), b=-2 * np.array(beta), gamma=gamma)


EXERCISES: dict[str, Exercise] = {
    "00.1": Exercise(_drift, "noise at a gate raises the loss; with nothing to pay, which way does σ go?"),
    "00.2": Exercise(lambda: _fully_connected((135, 64, 73)).weights, "three matrices: 135×64, 64×73 and the readout"),
    "01.1": Exercise(
        lambda: information.discrete_memoryless(JOINT / JOINT.sum(axis=1, keepdims=True), JOINT.sum(axis=1)),
        "T is made from X alone: no summary knows more about Y than X itself does", 1e-3,
    ),
    "01.2": Exercise(_first_relevance, "a component enters at one over its squared canonical correlation", 0.02),
    "01.3": Exercise(
        lambda: math.log(len(list(itertools.product((-1, 1), repeat=3)))),
        "a saturated tanh keeps the sign of its input and nothing else; count the patterns of three signs", 0.01,
    ),
    "02.1": Exercise(lambda: float(information.psi(np.array([[1.0], [3.0]]))[0]),
                     "ψ = log E f² − E log f², with E f² = (1 + 9)/2", 1e-3),
    "02.2": Exercise(_best_prior, "ξ = (μ² + σ²) E f², and E f² of the uniform law on [0, 2] is 4/3", 0.005),
    "02.3": Exercise(lambda: -sum(p * math.log(p) for p in (0.35, 0.3, 0.35)),
                     "without noise h says which of the three inputs it was; how uncertain was that before?", 1e-3),
    "03.1": Exercise(lambda: float(_gate(mean=0.5, log_variance=2 * math.log(0.25)).information().detach()),
                     "α = μ²/σ² = 4, and the price is ½ log(1 + α) in natural logarithms", 1e-3),
    "03.2": Exercise(lambda: theory.constant_unit(target=5.0, gamma=0.1).open_alpha,
                     "at the minimum 1 + α = y²/γ_j, with γ_j = γ/2 = 0.1", 0.5),
    "03.3": Exercise(lambda: theory.closed_mean_information([1.0, 2.0], sigma=1.0).nats,
                     "h = fσε is wider for f = 2 than for f = 1; theory.closed_mean_information integrates", 1e-3),
    "04.1": Exercise(_first_opening, "with every gate closed r = β, and gate j opens at (a_jᵀβ)²/w_j = b_j²/(4w_j)",
                     0.01),
    "04.2": Exercise(lambda: theory.check_sparsity_bound(_orthogonal([3.0] * 5, 0.1)).nonzeros,
                     "columns at right angles do not compete; try A = I in check_sparsity_bound"),
    "04.3": Exercise(lambda: math.degrees(math.acos(math.sqrt(float(theory.collinearity_limit(1.0, 1.0))))),
                     "T4a: cos² ≤ (1+α_i)(1+α_j)/((2+α_i)(2+α_j)); insert 1 and 1", 0.1),
    "04.4": Exercise(_closing_price, "T7: from γ_j = ‖β‖² on nothing can be open; what is ‖β‖² here?", 0.01),
    "05.1": Exercise(
        lambda: np.linalg.eigvalsh((np.eye(10) - 0.1) / 2)[-1] / np.linalg.eigvalsh(np.eye(10) / 10 - 0.01)[-1],
        "at uniform p the Hessian is (I − 11ᵀ/K)/K, and Böhning's matrix is (I − 11ᵀ/K)/2", 0.01,
    ),
    "05.2": Exercise(lambda: sum(value >= 1 / (2 + 8) for value in (2.5, 1.5, 0.8, 0.15, 0.05)),
                     "T3 counts the eigenvalues that are at least 1/(2 + α_max)"),
    "05.3": Exercise(lambda: theory.survivor_limit(_orthogonal([0.1] * 20, 0.01), 1.0),
                     "each such gate spends at least γ_j/2 of the budget ‖β‖²/4 (T7)"),
    "06.1": Exercise(lambda: 700 / math.log(10), "log N = 700 nats, so N = e⁷⁰⁰; as a power of ten?", 0.5),
    "06.2": Exercise(_identity_of_one_unit, "which of them sums exact numbers, unit by unit? Give its column's name"),
    "07.1": Exercise(lambda: _fully_connected((97, 71, 33)).r_w, "(97·71 + 71·33 + 33·10) of 266,200, in %", 0.01),
    "07.2": Exercise(lambda: _fully_connected((392, 150, 50)).r_n / _fully_connected((392, 150, 50)).r_w,
                     "halving all widths leaves half of the units and about a quarter of the weights", 0.02),
    "08.1": Exercise(_gate_name, "named_gates(vt.insert_gates(model, example)) lists them"),
    "08.2": Exercise(lambda: 100 * float(_gate().sigma.detach()), "σ = exp(½ log σ²), and the mean is 1", 0.02),
    "08.3": Exercise(lambda: (64 - 32) * (12 * 7 * 7 + 10), "a hidden unit has 588 incoming and 10 outgoing weights"),
    "09.1": Exercise(lambda: information.stability_beta(np.array([[0.45, 0.05], [0.05, 0.45]])),
                     "the critical price is one over the squared correlation, which is 1 − 2ε with ε = 0.1", 0.005),
    "09.2": Exercise(lambda: float(_gate(mean=1.0, log_variance=0.0).information().detach()) / math.log(2),
                     "½ log(1 + α) is in nats; a bit has log 2 of them", 1e-3),
    "09.3": Exercise(lambda: 1 / 5.5e-4, "divide I(T;X) − β I(T;Y) by β, and compare with γ I(T;X) − I(T;Y)", 2.0),
    "10.1": Exercise(_adam_step, "Adam divides the first step's gradient by its own size", 1e-4),
    "10.2": Exercise(lambda: 5e-4 * 784 * float(_gate().information().detach()),
                     "784 gates, each with α = e⁹; the price of one is γ · ½ log(1 + α)", 0.01),
}  # fmt: skip
"""By number: notebook, then place in it."""
