"""The information plane over training: the problem, the bins by hand, a tiny run from training to the drawing."""

from __future__ import annotations

import itertools
import math

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from vibtheory.cli import app
from vibtheory.errors import InvalidInputError
from vibtheory.figures import compression_table, plane_words, plot_training_plane
from vibtheory.studies import training_plane as study


def test_rotations_leave_the_label_alone():
    x, y = study.rotations()
    assert x.shape == (4096, 12)
    assert set(np.unique(x)) == {-1.0, 1.0}
    assert abs(y.mean() - 0.5) < 0.005
    golden = (1 + math.sqrt(5)) / 2
    vertices = np.concatenate(
        [np.roll(np.array([[0.0, a, b * golden] for a in (1, -1) for b in (1, -1)]), k, axis=1) for k in range(3)]
    )
    place = {tuple(row): number for number, row in enumerate(x.astype(int))}
    for axis in vertices:  # a fifth of a turn about each
        moved = Rotation.from_rotvec(2 * math.pi / 5 * axis / np.linalg.norm(axis)).apply(vertices)
        order = ((vertices[None] - moved[:, None]) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_allclose(vertices[order], moved, atol=1e-12)
        turned = [place[tuple(row)] for row in x[:, order].astype(int)]
        np.testing.assert_array_equal(y[turned], y)


def test_bins_by_hand():
    h = np.array([[-0.9, 0.5], [-0.9, 0.5], [0.9, 0.5], [0.9, -0.5]])
    i_x, i_y = study._binned(h, np.array([0, 1, 1, 1]), -1.0, 1.0)
    assert i_x == pytest.approx(1.5 * math.log(2))
    conditional = 0.25 * 0 + 0.75 * math.log(3)  # H(bins|y): one row of class 0, three apart of class 1
    assert i_y == pytest.approx(1.5 * math.log(2) - conditional)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.MODES, "quick", {"seeds": 1, "record": [0, 1], "n": 64})


def test_from_training_to_files_and_read_back(tiny, tmp_path, monkeypatch):
    command = ["figure", "plane", "--out", str(tmp_path / "figures"), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    done = CliRunner().invoke(app, [*command, "--quick"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "plane_quick.csv", "plane_quick.png", "plane_quick.pdf"
    }  # fmt: skip
    table = pd.read_csv(tmp_path / "figures/plane_quick.csv")
    keys = list(itertools.product(study.NETS, [0, 1], range(1, 6), ["binning", "noise", "noise of the scale"]))
    assert list(table[["net", "epoch", "layer", "method"]].itertuples(index=False, name=None)) == keys
    assert (table["i_x"] >= table["i_y"] - 4 * table["stderr_y"] - 4 * table["stderr_x"] - 1e-9).all()
    assert (table["i_y"] <= math.log(2) + 0.1).all()
    bins = table[table["method"] == "binning"]
    assert (bins["i_x"] <= math.log(4096) + 1e-9).all()
    assert (bins[bins["net"] == "tanh"].groupby("epoch")["i_x"].apply(lambda c: c.is_monotonic_decreasing)).all()
    monkeypatch.setattr(study, "train", None)  # finished runs are read back
    pd.testing.assert_frame_equal(study.training_plane("quick", tmp_path / "runs" / "plane"), table, rtol=1e-6)


def _paths() -> pd.DataFrame:
    rows = []
    for net, method, layer, seed in itertools.product(
        study.NETS, ["binning", "noise", "noise of the scale"], (1, 2), (0, 1)
    ):
        for epoch, i_x in enumerate([1.0, 4.0, 3.0 - seed]):
            rows.append({"net": net, "seed": seed, "epoch": epoch, "layer": layer, "method": method, "n": 64,
                         "i_x": i_x + layer, "i_y": 0.3 * epoch})  # fmt: skip
    return pd.DataFrame(rows)


def test_falls_from_the_peak():
    found = compression_table(_paths())
    assert len(found) == 18
    np.testing.assert_allclose(found["fall"], 1.5)
    np.testing.assert_allclose(found["spread"], math.sqrt(0.5))
    np.testing.assert_allclose(found["last_y"], 0.6)
    assert "tanh, bins (Shwartz-Ziv & Tishby 2017: a phase of compression): 1.5 to 1.5." in plane_words(_paths())


def test_the_drawing_shows_the_table():
    figure = plot_training_plane(_paths())
    panel = figure.axes[0]
    np.testing.assert_allclose(panel.get_lines()[0].get_xdata(), [2.0, 5.0, 3.5])
    np.testing.assert_allclose(panel.get_lines()[0].get_ydata(), [0.0, 0.3, 0.6])
    plt.close(figure)


def test_bad_input(tmp_path):
    with pytest.raises(InvalidInputError, match=r"mode: got 'long', expected one of full, quick"):
        study.training_plane("long", tmp_path)
    with pytest.raises(InvalidInputError, match=r"jobs: got 0"):
        study.training_plane("quick", tmp_path, jobs=0)
    with pytest.raises(InvalidInputError, match=r"table: got no column i_y"):
        plot_training_plane(_paths().drop(columns="i_y"))
