"""What the compared methods' nets are like inside: rank, soft rank, T8 on VIBNet's own gates, I(h1; x) against r_W.

Does lower information come with compression by any method, or with VIB alone? Laws differ in their noise, or have none,
so one definition serves all: h1 of the compressed net (its means, no gates) plus noise τ = the layer's own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vibtheory.errors import reject
from vibtheory.storage.files import write_text
from vibtheory.studies.experiment_runs import close_by_rank, run_folder
from vibtheory.studies.methods import BUDGETS, HELD_OUT, methods_on, methods_table
from vibtheory.studies.tables import check_table

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["NOISE", "measure_nets"]

NOISE = 1.0
"""τ in units of the layer's scale."""
_UPPER = ("leave_one_out", "variational", "per_unit", "gaussian_tight")  # on the inputs measured
_THRESHOLD, _LAYER = 0.01, {1: ("h1", "relu1"), 2: ("fc1", "relu3")}


def measure_nets(
    table: int,
    *,
    budget: str = "full",
    methods: Sequence[str] = (),
    out: str | Path = "figures",
    runs: str | Path = "runs",
    root: str | Path | None = None,
    n: int = 500,
) -> DataFrame:
    """Measure the nets at each price that `compare_methods` chose from, before fine-tuning; those that are finished.

    Args:
        table, budget, methods, out, runs, root: as in `compare_methods`.
        n: training inputs for the estimates.

    Returns:
        Also written to `out`/methods_nets_tableN….csv: method, gamma, r_w, error (percent, held out), units
        (of h1 that are kept; of fc1 in Table 2), rank (numerical, of their activations on the inputs), soft_rank
        (eigenvalues of the activations' Gram matrix, columns of unit length, from 0.01: docs/theory.md T3's plain form
        at α_max = 98), lower and upper (bounds on I(h; x) in nats for x uniform on the n inputs: the lower one holds
        for all images too, the upper one, fitted to these, does not), t8 (of VIBNet's gates, verdict and bound; else
        "").

    Raises:
        InvalidInputError: as `compare_methods`; Table 3; no finished run.
        DataError, CheckpointError: from the data set and the runs.
    """
    import pandas as pd
    import torch

    from vibtheory import datasets
    from vibtheory.bridge.layer_information import information_of
    from vibtheory.bridge.trained import check_trained
    from vibtheory.compression.cut import compress
    from vibtheory.networks.forward import activation
    from vibtheory.training.run import load, measured

    check_table(table, _LAYER, "the LeNets' nets are measured: leave --nets out")
    table_path, spend = methods_table(table, budget, out).path, BUDGETS[budget]
    data = datasets.load("mnist", root).split(HELD_OUT)
    few, test = data.subset(n), (torch.from_numpy(data.x_test), torch.from_numpy(data.y_test))
    x, (gate, layer), rows = torch.from_numpy(few.x_train), _LAYER[table], []
    for method in methods_on(table, methods):
        for value in method.values(table, spend):
            plan = method.plan(table, "choose", value, spend)
            ((recipe, seed),) = plan.jobs("choose")
            folder = run_folder(plan, recipe, seed, Path(runs))
            if not (folder / "run.json").exists():
                continue
            run = load(folder)
            if run.status != "completed":
                continue
            close_by_rank(plan, run.net, x[:2])
            net, found = compress(run.net), measured(run.net, test, data.likelihood)
            h = activation(net, net.get_submodule(layer), x).double().numpy()
            norms = np.linalg.norm(h, axis=0)
            unit = h[:, norms > 0] / norms[norms > 0]
            found_of_x = information_of(net, few.x_train, layer=layer, noise=NOISE)
            uppers = (bound for bound in found_of_x.bounds if bound.method in _UPPER)
            upper = min(uppers, key=lambda bound: bound.nats + 1.96 * np.nan_to_num(bound.stderr))
            t8 = ""
            if method.law == "vib":
                report = check_trained(run.net, few, gate, draws=3)[gate]
                t8 = f"{report.verdict}: {report.kept} kept, at most {report.above_one}"
            rows.append({
                "method": method.name, "gamma": value, "r_w": found["r_w"], "error": found["error"],
                "units": found[f"kept_{gate}"], "rank": int(np.linalg.matrix_rank(h)),
                "soft_rank": int((np.linalg.eigvalsh(unit.T @ unit) >= _THRESHOLD).sum()),
                "lower": found_of_x.lower.nats, "upper": upper.nats, "t8": t8,
            })  # fmt: skip
    if not rows:
        reject("runs", f"{runs} without a finished run of these methods", "at least one", "run `vibtheory methods`")
    frame = pd.DataFrame(rows)
    write_text(table_path.with_name(table_path.name.replace("table", "nets_table")), frame.to_csv(index=False))
    return frame
