"""The compared methods rerun: each law on one net, data, recipe and fine-tuning; the price chosen on held-out images.

Every method gets the same budget: 8 prices, one seed, 5,000 held-out training images. Chosen is the smallest net whose
fine-tuned held-out error stays within `SLACK` of the least that any method reached; then fresh seeds, once, on the
test set. What differs between methods is the law, the range of its prices, and how a price is spread over the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.errors import check_choice, reject
from vibtheory.storage.run_store import RecordedTable
from vibtheory.studies.experiment_runs import Row, run_experiment
from vibtheory.studies.experiments import Experiment, experiment
from vibtheory.studies.tables import published

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["METHODS", "SLACK", "Method", "chosen", "compare_methods", "method_table", "methods_table"]

SLACK = 0.3
"""Points of held-out error above the best by which a method may buy a smaller net."""

_BASES = {1: "lenet_300_100", 2: "lenet_5_caffe"}
_HELD_OUT, _CHOOSING_SEED, _TEST_SEEDS = 5000, 30, (31, 32, 33)
_QUICK: dict[str, Any] = {
    "epochs": 8,
    "pretrain_epochs": 2,
    "gate_learning_rate": 5e-2,
    "prune_every": 1,
    "prune_from": 2,
    "shift": 0,
}
_QUICK_EXAMPLES = 6_000


@dataclass(frozen=True)
class Method:
    """One compared method.

    Attributes:
        name: as the tables print it.
        law: of `vibtheory.networks.gates.LAWS`.
        lowest, highest: the range of its prices, per unit of its penalty.
        spread: of a price over the layers: "recipe" (the record's factors), "unit" (every unit alike, also channels) or
            "weights" (in proportion to the weights that leave a unit).
    """

    name: str
    law: str
    lowest: float
    highest: float
    spread: str = "unit"

    def plan(self, table: int, phase: str, prices: Sequence[float], seeds: Sequence[int], quick: bool) -> Experiment:
        """The runs of one phase, "choose" (on held-out images) or "test", as an experiment of one mode.

        Args:
            table: 1 or 2.
            phase: the mode's name; "choose" holds out 5,000 images.
            prices, seeds: a run for each pair.
            quick: the short version's epochs and examples.
        """
        base = experiment(_BASES[table])
        assert base.finetune is not None
        recipe = replace(base.recipe, layer_weights=self._layer_weights(base), **(_QUICK if quick else {}))
        short: dict[str, Any] = {"epochs": 2, "shift": 0} if quick else {}
        tuning = replace(base.finetune, distill=0.0, **short)
        return replace(
            base, name=f"methods{table}-{self.name}", recipe=recipe, finetune=tuning, teacher=None,
            arguments={"law": self.law}, held_out=_HELD_OUT if phase == "choose" else 0,
            examples=_QUICK_EXAMPLES if quick else 0,
            modes={phase: {"gammas": list(prices), "seeds": list(seeds)}},
        )  # fmt: skip

    def _layer_weights(self, base: Experiment) -> dict[str, float] | None:
        from torch import nn

        from vibtheory.networks.gates import GateLaw
        from vibtheory.networks.registry import build
        from vibtheory.networks.sequential import ordered_modules

        if self.spread == "recipe":
            factors = base.recipe.layer_weights
            return None if factors is None else dict(factors)
        modules = ordered_modules(build({"builder": base.network, "arguments": {"law": self.law}}))
        found: dict[str, tuple[GateLaw, float]] = {}
        for place, (name, gate) in enumerate(modules):
            if isinstance(gate, GateLaw):
                after = next(m for _, m in modules[place:] if isinstance(m, nn.Linear | nn.Conv2d))
                found[name] = gate, after.weight.numel() / gate.features if self.spread == "weights" else 1.0
        units = sum(gate.features for gate, _ in found.values())
        mean = sum(size * gate.features for gate, size in found.values()) / units
        return {name: size / mean / gate.multiplier for name, (gate, size) in found.items()}


METHODS = {
    method.name: method
    for method in (
        Method("VIBNet", "vib", 1e-4, 2e-3, "recipe"),
        Method("L0", "l0", 3e-4, 1e-2),
        Method("L0-sep", "l0", 3e-4, 1e-2, "weights"),
        Method("SBP", "sbp", 3e-5, 2e-3),
        Method("BC-GNJ", "bc-gnj", 1e-4, 2e-3),
        Method("BC-GHS", "bc-ghs", 3e-5, 2e-3),
        Method("GD", "gd", 1e-4, 3e-3),
        Method("GL", "gl", 3e-4, 1e-2),
        Method("DN", "dn", 3e-4, 1e-2),
    )
}
"""By name. NS needs BatchNorm, PF is a row of Table 3, SBPa, VD, RNP and torch-pruning's are not run here."""


@dataclass(frozen=True, kw_only=True)
class _MethodRow(Row):
    """A run's row in the recorded table."""

    method: str
    phase: str


def methods_table(table: int, quick: bool, out: str | Path = "figures") -> RecordedTable:
    """`out`/methods_tableN.csv, or methods_tableN_quick.csv, which `compare_methods` adds to.

    Args:
        table: 1 or 2. Raises InvalidInputError otherwise.
        quick: the short version's.
        out: its folder.
    """
    if table not in _BASES:
        reject("table", table, "1 or 2", "the VGG rows are recipes of their own: `vibtheory table 3`")
    name = f"methods_table{table}{'_quick' if quick else ''}.csv"
    return RecordedTable(Path(out) / name, _MethodRow, ("method", "phase"))


def compare_methods(
    table: int,
    *,
    quick: bool = False,
    methods: Sequence[str] = (),
    out: str | Path = "figures",
    runs: str | Path = "runs",
    jobs: int = 1,
    device: str = "auto",
    root: str | Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> DataFrame:
    """Choose each method's price on held-out images, then run fresh seeds on the test set; finished runs are read back.

    Args:
        table: 1 (LeNet-300-100) or 2 (LeNet-5-Caffe).
        quick: 3 prices, 6,000 examples, 8 epochs, 2 of fine-tuning, 2 seeds, no augmentation: a look, no comparison.
        methods: names in `METHODS`; none: all. The bar on the error is that of all methods recorded so far.
        out, runs: folders of the table and of the runs.
        jobs: processes side by side.
        device: as in `vibtheory.train`.
        root: folder with the data set's files; None: where `vibtheory.datasets.load` looks.
        announce: called with a line before each method's runs.

    Returns:
        All recorded rows: those of `run_experiment`, method, and phase ("choose", errors on held-out images; "test").

    Raises:
        InvalidInputError: another table, an unknown method; as `run_experiment`.
        DataError, CheckpointError, DivergedError: from the runs.
    """
    store = methods_table(table, quick, out)
    for name in methods:
        check_choice("methods", name, METHODS)
    store.check()
    todo = [METHODS[name] for name in methods or METHODS]
    results = None
    picked: dict[str, float] = {}
    for phase in ("choose", "test"):
        for method in todo:
            prices = list(map(float, np.geomspace(method.lowest, method.highest, 3 if quick else 8).round(9)))
            seeds: Sequence[int] = (_CHOOSING_SEED,)
            if phase == "test":
                if method.name not in picked:
                    announce(f"{method.name}: collapsed at every price")
                    continue
                prices, seeds = [picked[method.name]], _TEST_SEEDS[:2] if quick else _TEST_SEEDS
            plan = method.plan(table, phase, prices, seeds, quick)
            announce(f"{method.name}, {phase}: {len(prices) * len(seeds)} runs of {plan.recipe.epochs} epochs")
            rows = run_experiment(plan, phase, runs=runs, jobs=jobs, device=device, root=root)
            rows = rows.drop(columns="mode").assign(method=method.name, phase=phase)
            results, _ = store.add(rows)
        assert results is not None
        picked = chosen(results)  # the same after the second phase
    assert results is not None
    return results


def chosen(results: DataFrame) -> dict[str, float]:
    """The price of each method: the smallest net within `SLACK` of the least held-out error of all; else its best.

    Args:
        results: as `compare_methods` returns; methods that collapsed at every price are left out.
    """
    tuned = results[(results["phase"] == "choose") & (results["stage"] == "finetuned")]
    bar = tuned["error_last"].min() + SLACK
    picked = {}
    for name, rows in tuned.groupby("method", sort=False):
        within = rows[rows["error_last"] <= bar]
        ranked = within.sort_values("r_w") if len(within) else rows.sort_values("error_last")
        picked[str(name)] = float(ranked["gamma"].iloc[0])
    return picked


def method_table(table: int, results: DataFrame) -> DataFrame:
    """Each method's printed row beside ours, as text: mean ± standard deviation over the test seeds, fine-tuned.

    Args:
        table: 1 or 2.
        results: as `compare_methods` returns.

    Returns:
        Columns method, price, r_W (%), error (%), net (of the seed with the least r_W), seeds, printed r_W (%),
        printed error (%). Printed rows without a run of ours say "not run".
    """
    import pandas as pd

    printed = published(table).drop_duplicates("method").set_index("method")
    tuned = results[(results["phase"] == "test") & (results["stage"] == "finetuned")]
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*METHODS, *printed.index]):
        mine = tuned[tuned["method"] == name]
        row = {"method": name, "price": "", "r_W (%)": "not run", "error (%)": "", "net": "", "seeds": ""}
        if len(mine):
            row |= {column: f"{mine[key].mean():.2f} ± {mine[key].std():.2f}"
                    for column, key in (("r_W (%)", "r_w"), ("error (%)", "error_last"))}  # fmt: skip
            row |= {"price": f"{mine['gamma'].iloc[0]:.3g}", "seeds": str(len(mine)),
                    "net": str(mine.sort_values("r_w")["architecture"].iloc[0])}  # fmt: skip
        known = printed.loc[name] if name in printed.index else {}
        for column, key in (("printed r_W (%)", "r_w"), ("printed error (%)", "error")):
            row[column] = f"{known[key]:g}" if len(known) else "-"
        rows.append(row)
    return pd.DataFrame(rows)
