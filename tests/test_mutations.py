"""The most important formulas, each broken on purpose: the named test must fail.

A mutation is one replacement in one line of source. Each runs in a fork of this process, which has the big libraries
loaded: the fork forgets the package, imports it again with the changed line, and runs the named test on it. Nothing is
written, and nothing changes here. The unchanged package passes all the named tests in the same way, so that a failure
is the mutation's.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import hypothesis
import pytest

from tests.forks import warm

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
        "theory/penalty.py", "return np.asarray(t / root_noise(t))", "return np.asarray(t * root_noise(t))",
        "theory/test_penalty.py::test_variance_minimises_the_objective",
    ),
    "T1: rho = gamma (u - log(1-u))": Mutation(
        "theory/penalty.py", "t * root_noise(t) + 2 * np.arcsinh(t / 2)", "t * root_noise(t) + np.arcsinh(t / 2)",
        "theory/test_penalty.py::test_closed_forms_to_1e_12_over_24_decades",
    ),
    "T1, T2: curvature -2w/(2+alpha)": Mutation(
        "theory/penalty.py", "return np.asarray(-2 * self.w * noise / (1 + noise))",
        "return np.asarray(-self.w * noise)",
        "theory/test_penalty.py::test_slope_and_curvature_by_finite_differences",
    ),
    "T3: threshold 1/(2+alpha)": Mutation(
        "theory/soft_rank.py", "noise = 1 / (2 + snr[live])", "noise = 1 / (1 + snr[live])",
        "theory/test_rank.py::test_soft_rank_counts_as_the_definition",
    ),
    "T4a: (1+alpha)/(2+alpha)": Mutation(
        "theory/redundancy.py", "return (1 + alpha) / (2 + alpha)", "return alpha / (1 + alpha)",
        "theory/test_global_statements.py::test_collinearity_limit_closed_form",
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
        "theory/landscape.py", "available = bound._beta_squared_above / 4 * (1 + a) / a",
        "available = bound._beta_squared_above / 8 * (1 + a) / a",
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
        "theory/sparsity.py", '("T2 (paper): nonzeros <= rank[A] + 1", rank + 1)',
        '("T2 (paper): nonzeros <= rank[A] + 1", rank - 1)',
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


class _Changed(SourceFileLoader):
    """Loads a module from its file with the mutation made."""

    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self.mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(source.replace(self.mutation.old, self.mutation.new), self.path, "exec")


class _Finder(MetaPathFinder):
    """Hands the one module of a mutation to `_Changed`; `met` tells whether it was imported."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation, self.met = mutation, False
        self.name = "vibtheory." + mutation.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        self.met = True
        file = str(ROOT / "vibtheory" / self.mutation.file)
        return importlib.util.spec_from_file_location(fullname, file, loader=_Changed(fullname, file, self.mutation))


def _fork(tests: list[str], mutation: Mutation | None = None) -> tuple[int, str]:
    """pytest's exit code (9: the changed module was never imported) and output, from a fork of this process."""
    warm()
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _in_fork(tests, mutation, said.fileno())
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


def _in_fork(tests: list[str], mutation: Mutation | None, said: int) -> int:
    sys.settrace(None)  # mutants are not covered
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
    for name in list(sys.modules):
        if name.split(".")[0] in ("vibtheory", "tests"):
            del sys.modules[name]
    finder = None if mutation is None else _Finder(mutation)
    if finder is not None:
        sys.meta_path.insert(0, finder)
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "COV"))]:
        del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the named tests need none, and each fork would load them all
    phases = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.shrink]  # any counterexample will do
    hypothesis.settings.register_profile("mutant", phases=phases, database=None)
    hypothesis.settings.load_profile("mutant")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception"]
    options += ["--assert=plain", "--tb=short", "--rootdir", str(ROOT)]
    code = int(pytest.main([*options, *(str(ROOT / "tests" / test) for test in tests)]))
    sys.stdout.flush()
    return code if finder is None or finder.met else 9


def test_the_unchanged_package_passes() -> None:
    code, said = _fork([mutation.test for mutation in MUTATIONS.values()])
    assert code == 0, said


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_broken_formula_is_noticed(name: str) -> None:
    mutation = MUTATIONS[name]
    source = (ROOT / "vibtheory" / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, "the formula was rewritten: mutate what stands there now"
    code, said = _fork([mutation.test], mutation)
    assert code == 1, said  # 1: tests ran, and one failed; other codes are no verdict
    assert "1 failed" in said
