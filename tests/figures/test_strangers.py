"""Results of any size are drawn whole: more layers than colours, one epoch, a gate far from the others."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from vibtheory.bridge.layer_information import information_of
from vibtheory.errors import InvalidInputError
from vibtheory.figures import (
    plot_binned_information,
    plot_bound_counts,
    plot_dead_units,
    plot_gaussian_bottleneck,
    plot_layer_information,
    plot_one_gate,
    plot_path,
    plot_sandwich,
    plot_solver_cost,
    plot_trained,
    plot_training,
    threshold_figure,
    width_figure,
)
from vibtheory.information import gaussian_bottleneck
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.theory import QuadraticBound, sparsity_path


@pytest.fixture(autouse=True)
def _closed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def _history(layers, epochs=5):
    table = pd.DataFrame({"epoch": range(epochs), "cross_entropy": 2.0 ** -np.arange(epochs), "information": 9.0})
    return table.assign(**{f"kept_layer{i}": 100 - i * np.arange(epochs) for i in range(layers)})


def _own(axes, name):
    return [line for line in axes.lines if str(line.get_label()).startswith(name)]


@pytest.mark.parametrize("layers", [1, 3, 16, 24])
def test_every_layer_of_a_training_has_a_look_and_a_name_inside(layers):
    figure = plot_training(_history(layers))
    lines = _own(figure.axes[1], "layer")
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == layers
    figure.draw_without_rendering()
    (legend,) = [each for each in (*figure.legends, figure.axes[1].get_legend()) if each is not None]
    inside = legend.get_window_extent()
    assert len(legend.get_texts()) == layers
    assert 0 <= inside.ymin <= inside.ymax <= figure.bbox.ymax
    assert inside.xmax <= figure.bbox.xmax
    if layers > 6:
        assert not inside.overlaps(figure.axes[1].get_window_extent())


def test_one_epoch_is_seen_and_none_is_refused():
    figure = plot_training(_history(2, epochs=1))
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)
    with pytest.raises(InvalidInputError, match="0 rows"):
        plot_training(_history(2).iloc[:0])


def test_an_axis_of_zeros_alone_is_no_logarithm():
    history = pd.DataFrame({"epoch": [1, 2], "cross_entropy": [1.0, 0.5], "information": [0.0, 0.0], "kept_h1": [3, 2]})
    figure = plot_training(history)
    loss, _, information = figure.axes
    low, high = information.get_ylim()
    assert low < 0 < high
    assert (loss.get_yscale(), information.get_yscale()) == ("log", "linear")
    plt.close(figure)


def test_the_legend_of_a_sandwich_hides_no_point():
    table = pd.DataFrame({"units": [1, 10, 100] * 2, "method": ["infonce"] * 3 + ["pairwise"] * 3, "nats": [6.9] * 6})
    figure = plot_sandwich(table, 1000)
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert not axes.get_window_extent().overlaps(legend.get_window_extent())
    assert len(legend.get_texts()) == 3
    plt.close(figure)


def test_a_path_of_one_price_is_seen():
    figure = plot_path(sparsity_path(QuadraticBound([[1.0]], [-4.0]), [0.5]))
    assert [line.get_marker() for line in figure.axes[1].lines] == ["o"]


def test_nine_layers_and_five_widths_are_all_drawn():
    kept = {f"layer{i}": [9, 8 - i % 3] for i in range(9)}
    table = pd.DataFrame({"threshold": [0.1, 1.0], **kept, "r_w": [5.0, 4.0], "error": [1.0, 1.1]})
    lines = _own(threshold_figure(table).axes[0], "layer")
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 9
    rows = [
        {"width": width, "seed": 0, "gamma": 0.1, "layer": layer, "live": 10, "rank": 9, "soft_rank_sharp": 5,
         "nonzeros": 3, "kept": 5 + width, "error": 1 + width / 10, "r_w_of_narrowest": 3.0 * width}
        for width in (1, 2, 4, 8, 16) for layer in ("h1", "h2")
    ]  # fmt: skip
    panels = width_figure(pd.DataFrame(rows)).axes
    assert [[text.get_text() for text in panel.get_legend().get_texts()] for panel in panels[1:]] == [
        ["×1", "×2", "×4", "×8", "×16"]
    ] * 2


def test_more_units_bins_and_prices_than_colours():
    units = [
        {"layer": layer, "unit": 0, "proposition": proposition, "step": step, "alpha": 10.0 - step}
        for layer in range(8) for proposition in (1, 2) for step in (0, 1)
    ]  # fmt: skip
    assert [len(_own(axes, "layer")) for axes in plot_dead_units(pd.DataFrame(units)).axes] == [8, 8]
    bins = [
        {"activation": "tanh", "bins": count, "scale": scale, "nats": 1.0, "truth": 2.0}
        for count in (5, 10, 20, 30, 40, 50, 60) for scale in (1, 2)
    ]  # fmt: skip
    lines = [line for line in plot_binned_information(pd.DataFrame(bins)).axes[0].lines if "bins" in line.get_label()]
    assert len(lines) == 7
    costs = [
        {"d": d, "rank": rank, "gamma": gamma, "fast_s": 0.1 * d, "cvxpy_s": 1.0}
        for d in (100, 200) for rank in (50, 100) for gamma in (0.01, 0.1, 1, 10, 100)
    ]  # fmt: skip
    assert len(_own(plot_solver_cost(pd.DataFrame(costs)).axes[0], "fast")) == 5


@pytest.mark.parametrize(("mu", "sigma"), [(1.0, 0.5), (20.0, 0.5), (1.01, 1e-4), (-1e6, 1e-3), (0.0, 100.0)])
def test_a_gate_wherever_it_is(mu, sigma):
    left, right = plot_one_gate(mu, sigma).axes
    z, density = left.lines[0].get_data()
    assert np.trapezoid(density, z) == pytest.approx(1, abs=1e-3)
    alpha, price = (float(part[0]) for part in right.lines[-1].get_data())
    if mu:
        assert alpha == pytest.approx((mu / sigma) ** 2)
    assert price == pytest.approx(0.5 * np.log1p(alpha))


def _boxes(texts):
    return [text.get_window_extent() for text in texts]


def _apart(boxes):
    return not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize(("layers", "columns"), [(1, 7), (3, 6), (16, 7), (21, 7)])
def test_counts_of_any_number_of_layers_are_read(layers, columns):
    names = ["d", "rank", "soft_rank", "soft_rank_sharp", "nonzeros", "trained_nonzeros", "a_priori"][:columns]
    table = pd.DataFrame({name: np.full(layers, 512) for name in names})
    table["layer"] = [f"encoder.blocks.{k}.feed_forward.activation" for k in range(layers)]
    figure = plot_bound_counts(table)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    for axes in figure.axes:
        assert _apart(_boxes(axes.texts))
        assert _apart(_boxes(axes.get_xticklabels()))
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
        centres = [tick.get_position()[0] for tick in axes.get_xticklabels()]
        bars = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        assert np.mean(bars) == pytest.approx(np.mean(centres))
    assert sum(len(axes.get_xticklabels()) for axes in figure.axes) == layers
    labels = [tick.get_text().replace("\n", "") for axes in figure.axes for tick in axes.get_xticklabels()]
    assert labels == list(table["layer"])
    with pytest.raises(InvalidInputError, match="0 rows"):
        plot_bound_counts(table.iloc[:0])


def test_twenty_parts_fit_on_a_page():
    part = SimpleNamespace(layer="encoder.blocks.7.act", kept=3, spectrum=np.array([3.0, 2.0, 1.5]), above_one=3,
                           verdict="holds", least=SimpleNamespace(stderr=0.1))  # fmt: skip

    class Report(list):
        before = ()
        reports = property(list)

    figure = plot_trained(Report([part] * 21))
    assert figure.get_figwidth() < 15
    assert len(figure.axes) == 21


@pytest.mark.parametrize("beta", [5.0, 3000.0])
def test_points_of_a_gaussian_bottleneck_lie_inside(beta):
    plane, parts = plot_gaussian_bottleneck(
        gaussian_bottleneck(np.eye(8), np.eye(8), np.diag(np.linspace(0.1, 0.9, 8))), beta
    ).axes
    (low, high), (bottom, top) = plane.get_xlim(), plane.get_ylim()
    points = [(float(x[0]), float(y[0])) for x, y in (line.get_data() for line in plane.lines) if len(x) == 1]
    assert len(points) == 1 + (7 if beta < 100 else 8)
    assert all(low <= x <= high and bottom <= y <= top for x, y in points)
    lines = [line for line in parts.lines if "component" in str(line.get_label())]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8


@pytest.mark.parametrize(("noise", "infinite"), [(1e-4, 0), (None, 1)])
def test_bounds_far_apart_and_infinite_are_seen(noise, infinite):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
    x = torch.randn(20, 6)
    net = net if noise else insert_gates(net, x)
    layer = "1" if noise else next(iter(named_gates(net)))
    report = information_of(net, x, layer=layer, noise=noise)
    figure = plot_layer_information(report)
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_xscale() == "symlog"
        assert _apart([box for box in _boxes(axes.get_xticklabels()) if box.width])
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["∞"] * infinite
