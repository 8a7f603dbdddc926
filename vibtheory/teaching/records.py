"""Recorded runs: CSV files in notebooks/recorded/, each by a function of its name, and reading and writing them.

On the command line: `python -m vibtheory.teaching record`, which stands in the first line of each file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.errors import DataError, check_choice
from vibtheory.storage.files import write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JOINT", "RECORDS", "alpha_histograms", "live", "project_file", "record_all", "recorded", "write_recorded"]

_FOLDER = "notebooks/recorded"
# p(x, y) of notebook 01: rows 1 and 2 speak for small y, rows 3 and 4 for large y and nearly alike.
JOINT = np.array(
    [[0.20, 0.03, 0.01, 0.01], [0.12, 0.09, 0.03, 0.01], [0.01, 0.03, 0.05, 0.16], [0.01, 0.01, 0.02, 0.21]]
)


def live() -> bool:
    """Whether the notebook should train instead of reading its record: `python -m vibtheory.teaching run --live`."""
    return os.environ.get("VIBTHEORY_LIVE", "") not in ("", "0")


def project_file(path: str) -> Path:
    """A file of the project by its path from the project's root, wherever in the project the notebook runs.

    Raises:
        DataError: no folder above the working directory has it.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / path).exists():
            return folder / path
    raise DataError(f"{path} is not in {here} or above it. Remedy: open the notebook inside a checkout of the project")


def recorded(name: str) -> pd.DataFrame:
    """The table that `python -m vibtheory.teaching record NAME` wrote.

    Raises:
        DataError: there is no such record.
    """
    import pandas as pd

    return pd.read_csv(project_file(f"{_FOLDER}/{name}.csv"), comment="#")


def write_recorded(name: str, table: pd.DataFrame, folder: Path) -> Path:
    """Write `table` as the record `name`, its command in the first line; returns the path."""
    target = folder / f"{name}.csv"
    text = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    write_text(target, f"# python -m vibtheory.teaching record {name}\n{text}")
    return target


def record_all(names: Iterable[str], folder: Path) -> list[Path]:
    """Make the records `names` again, in `folder`; returns their paths.

    Raises:
        InvalidInputError: an unknown name.
    """
    wanted = list(names)
    for name in wanted:
        check_choice("name", name, RECORDS)
    return [write_recorded(name, RECORDS[name](), folder) for name in wanted]


def bottleneck_curve() -> pd.DataFrame:
    """Blahut–Arimoto on `JOINT` over β: information in nats and the encoder, row by row (p_tx = p(t|x))."""
    import pandas as pd

    from vibtheory.information import blahut_arimoto

    rows: list[dict[str, float]] = []
    start = None
    for beta in np.concatenate([[1.0, 1.2, 1.4], np.geomspace(1.45, 100, 42)]):
        solution = blahut_arimoto(JOINT, float(beta), restarts=4, start=start)
        start = solution.encoder
        padded = np.pad(solution.encoder, ((0, 0), (0, 4 - solution.clusters)))
        cells = {f"p_{t}{x}": float(padded[x, t]) for x in range(4) for t in range(4)}
        rows.append({"beta": float(beta), "i_tx": solution.i_tx, "i_ty": solution.i_ty, **cells})
    return pd.DataFrame(rows)


def bottleneck_exact() -> pd.DataFrame:
    """The exact information curve of `JOINT` by linear programming, with its remaining gap, in nats."""
    from vibtheory.information import exact_ib_curve

    return exact_ib_curve(JOINT, np.linspace(0.025, 1.35, 54), grid=12).to_frame()


def alpha_histogram() -> pd.DataFrame:
    """Counts of log₁₀ α per layer and epoch while LeNet-300-100 trains on 20,000 MNIST images (γ = 1e-3, one seed)."""
    import vibtheory as vt

    net = vt.networks.lenet_300_100()
    data = vt.datasets.load("mnist").subset(20_000, 1000)
    return alpha_histograms(net, data, gamma=1e-3, epochs=40, gate_learning_rate=3e-3)


def alpha_histograms(net: Any, data: Any, *, bins: int = 40, **recipe: Any) -> pd.DataFrame:
    """Train `net` on `data` and count log₁₀ α of every gate in `bins` bins from −6 to 6, epoch by epoch.

    Returns:
        Columns epoch, layer, log10_alpha (bin centre), gates (count); values outside are counted in the end bins.
    """
    import pandas as pd

    import vibtheory as vt
    from vibtheory.networks.gates import vib_gates

    edges = np.linspace(-6, 6, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    rows: list[dict[str, Any]] = []

    def look(net: Any, epoch: int) -> None:
        for name, gate in vib_gates(net).items():
            values = np.clip(gate.log_alpha.detach().numpy() / np.log(10), -5.999, 5.999)
            counts, _ = np.histogram(values, edges)
            rows.extend(
                {"epoch": epoch, "layer": name, "log10_alpha": float(c), "gates": int(k)}
                for c, k in zip(centres, counts, strict=True)
            )

    vt.train(net, data, pretrain_epochs=0, device="cpu", seed=0, on_epoch=look, **recipe)
    return pd.DataFrame(rows)


def input_pixels() -> pd.DataFrame:
    """α of the 784 input gates of Table 1's first net, and which survive; needs `vibtheory table 1 --full` before."""
    import pandas as pd

    import vibtheory as vt
    from vibtheory.compression.liveness import alive
    from vibtheory.networks.gates import vib_gates

    folder = min(project_file("runs").glob("lenet_300_100-gamma0.00055-seed0-*"))
    net = vt.load(folder).net
    gate = vib_gates(net)["input"]
    return pd.DataFrame(
        {
            "row": np.arange(784) // 28,
            "column": np.arange(784) % 28,
            "log10_alpha": np.maximum(gate.log_alpha.detach().numpy() / np.log(10), -12),
            "alive": alive(net)["input"].numpy().astype(int),
        }
    )


RECORDS: dict[str, Callable[[], Any]] = {
    record.__name__: record for record in (bottleneck_curve, bottleneck_exact, alpha_histogram, input_pixels)
}
