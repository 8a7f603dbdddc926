"""The most important formulas, each broken on purpose in a copy of the package: the named test must fail.

A mutation is one replacement in one line of source. The copy is the whole package beside the tests, in a folder of its
own; nothing is changed here. The unchanged copy passes all the named tests, so that a failure is the mutation's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in vibtheory/`file`, where it stands exactly once; `test` is what must notice."""

    file: str
    old: str
    new: str
    test: str


MUTATIONS = {
    "T1: alpha = u/(1-u)": Mutation(
        "theory/penalty.py", "return np.asarray(t / _half_root(t))", "return np.asarray(t * _half_root(t))",
        "theory/test_penalty.py::test_variance_minimises_the_objective",
    ),
    "T1: rho = gamma (u - log(1-u))": Mutation(
        "theory/penalty.py", "t * _half_root(t) + 2 * np.arcsinh(t / 2)", "t * _half_root(t) + np.arcsinh(t / 2)",
        "theory/test_penalty.py::test_closed_forms_to_1e_12_over_24_decades",
    ),
    "T1, T2: curvature -2w/(2+alpha)": Mutation(
        "theory/penalty.py", "return np.asarray(-2 * w * noise / (1 + noise))", "return np.asarray(-w * noise)",
        "theory/test_penalty.py::test_slope_and_curvature_by_finite_differences",
    ),
    "T3: threshold 1/(2+alpha)": Mutation(
        "theory/soft_rank.py", "noise = 1 / (2 + snr[live])", "noise = 1 / (1 + snr[live])",
        "theory/test_rank.py::test_soft_rank_counts_as_the_definition",
    ),
    "T4a: (1+alpha)/(2+alpha)": Mutation(
        "theory/redundancy.py", "shares.append((1 + alpha) / (2 + alpha))", "shares.append(alpha / (1 + alpha))",
        "theory/test_global_statements.py::test_collinearity_limit_closed_form_and_refusals",
    ),
    "T5: Boehning's quarter": Mutation(
        "theory/softmax_loss.py", "gram = 0.25 * (self.V.T @ self.V)", "gram = 0.125 * (self.V.T @ self.V)",
        "theory/test_real_loss.py::test_the_curvature_is_attained_where_two_classes_are_equally_likely",
    ),
    "T6: Hessian on the support": Mutation(
        "theory/certificate.py", "-= 2.0 * v**2 / (1.0 + v**2)", "-= 1.0 * v**2 / (1.0 + v**2)",
        "theory/test_certificate.py::test_kkt_second_order_on_the_support",
    ),
    "T7: budget of a quarter": Mutation(
        "theory/budget.py", "available = bound.beta_norm() ** 2 / 4 * (1 + a) / a",
        "available = bound.beta_norm() ** 2 / 8 * (1 + a) / a",
        "theory/test_global_statements.py::test_survivor_limit_is_attained_by_orthogonal_columns",
    ),
    "P2: psi of ReLU's valid bound": Mutation(
        "information/gaussian_prior.py", "np.where(active > 0, terms + self.psi_plus, 0.0)",
        "np.where(active > 0, terms, 0.0)",
        "information/test_gaussian_prior.py::test_relu_bound_is_above_the_exact_information",
    ),
    "P3: other zero patterns are impossible": Mutation(
        "information/channel.py", "result[source[:, None] != self.pattern[None, :]] = -np.inf",
        "result[source[:, None] != self.pattern[None, :]] += 0.0",
        "information/test_channel.py::test_log_density_is_that_of_the_mixed_measure",
    ),
    "M: r_N counts maps before and after pooling": Mutation(
        "compression/sizes.py", "units=(24**2 + 12**2) * a", "units=24**2 * a",
        "compression/test_metrics.py::test_table_2_rows_with_an_architecture",
    ),
    "T2: rank + 1": Mutation(
        "theory/sparsity.py", '("T2 (poster): nonzeros <= rank[A] + 1", rank + 1)',
        '("T2 (poster): nonzeros <= rank[A] + 1", rank - 1)',
        "theory/test_sparsity.py::test_everything_closed_and_zero_columns",
    ),
    "T6: Kantorovich's radius 2 eta": Mutation(
        "theory/certificate.py", "return Certificate(CERTIFIED, how, *numbers, 2.0 * eta, ties",
        "return Certificate(CERTIFIED, how, *numbers, 0.5 * eta, ties",
        "theory/test_certificate.py::test_kantorovich_numbers",
    ),
    "price: gamma s/2": Mutation(
        "bridge/checking.py", "return price * gate.multiplier / 2", "return price * gate.multiplier",
        "bridge/test_checking.py::test_price_is_gamma_times_multiplier_over_two",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package (MNIST linked) and of the tests."""
    folder = tmp_path_factory.mktemp("mutants")
    shutil.copytree(
        ROOT / "vibtheory", folder / "vibtheory", ignore=shutil.ignore_patterns("__pycache__", "*.gz", "claims")
    )
    for file in (ROOT / "vibtheory" / "datasets" / "mnist").glob("*.gz"):
        (folder / "vibtheory" / "datasets" / "mnist" / file.name).symlink_to(file)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """pytest on the copy's tests: the copy's folder comes before every installed package."""
    unwritten = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy), "HYPOTHESIS_STORAGE_DIRECTORY": str(copy)}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # copies are not covered
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:cov"]
    return subprocess.run([*command, *(f"tests/{test}" for test in tests)], cwd=copy, env={**inherited, **unwritten},
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_the_unchanged_copy_passes(copy: Path) -> None:
    done = _run(copy, *(mutation.test for mutation in MUTATIONS.values()))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_broken_formula_is_noticed(name: str, copy: Path) -> None:
    mutation = MUTATIONS[name]
    path = copy / "vibtheory" / mutation.file
    source = path.read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, "the formula was rewritten: mutate what stands there now"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        done = _run(copy, mutation.test)
    finally:
        path.write_text(source, encoding="utf-8")
    assert done.returncode == 1, done.stdout  # 1: tests ran, and one failed; other codes are no verdict
    assert "1 failed" in done.stdout
