"""Figure 1 draws what the paper's block shows, as vectors and reproducibly."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from vibtheory.figures import gate_block, save


def test_every_symbol_of_the_block_is_there_and_inside():
    figure = gate_block()
    axes = figure.axes[0]
    texts = " ".join(t.get_text() for t in axes.texts)
    for symbol in (r"h_{i-1}", r"f_i(h_{i-1})", r"\epsilon_i", r"\sigma_i", r"\mu_i", r"z_i", r"$h_i$", r"\odot"):
        assert symbol in texts
    figure.canvas.draw()
    frame = figure.bbox
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1
    plt.close(figure)


def test_the_pdf_is_a_vector_drawing_and_identical_on_a_second_call(tmp_path):
    written = []
    for name in ("a", "b"):
        figure = gate_block()
        written.append(save(figure, tmp_path / name, ("pdf",))[0].read_bytes())
        plt.close(figure)
    assert written[0] == written[1]
    assert b"/Subtype /Image" not in written[0]
