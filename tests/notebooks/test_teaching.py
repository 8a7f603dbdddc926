"""What the notebooks stand on: pictures, sliders, headline numbers, comparison, records."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from fractions import Fraction

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.notebooks import comparing
from vibtheory.errors import DataError, InvalidInputError
from vibtheory.teaching import (
    Explorer,
    HeadlineError,
    Slider,
    animate,
    check,
    headline,
    live,
    notebooks,
    project_file,
    recorded,
    show,
)
from vibtheory.teaching.__main__ import main
from vibtheory.teaching.exercises import EXERCISES
from vibtheory.teaching.records import record_all, write_recorded

v4 = nbformat.v4


def _draw(height=1.0, width=1.0):
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.bar([0], [height], width=width)
    axes.set(xlim=(-5, 5), ylim=(0, 10))
    return figure


def _explorer(**more):
    return Explorer(_draw, "a bar", height=Slider("height", [1, 5, 9], start=1), **more)


def test_show_closes_the_figure_and_is_the_same_every_time():
    before = plt.get_fignums()
    first, second = show(_draw(3), "a bar"), show(_draw(3), "a bar")
    assert first.data == second.data
    assert plt.get_fignums() == before
    data, metadata = first._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    assert metadata["image/png"]["alt"] == str(first) == "a bar"


def test_animation_has_one_frame_per_value():
    picture = animate(_draw, [1, 4, 9], "a growing bar", seconds=0.2)
    image = Image.open(io.BytesIO(picture.data))
    assert image.n_frames == 3
    assert picture.mime == "image/gif"
    frames = []
    for place in range(3):
        image.seek(place)
        frames.append(np.asarray(image.convert("L"), dtype=float))
    dark = [(frame < 200).sum() for frame in frames]
    assert dark[0] < dark[1] < dark[2]


def test_moving_the_slider_changes_the_picture_and_back():
    explorer = _explorer()
    widget = explorer.widget()
    hand, image = widget.children
    first = bytes(image.value)
    hand.value = 2
    assert explorer.setting == {"height": 9}
    assert bytes(image.value) != first
    assert bytes(image.value) == show(_draw(9), "the same").data
    hand.value = 1
    assert bytes(image.value) == first


def test_two_sliders_and_set():
    explorer = _explorer(width=Slider("width", [0.5, 3.0]))
    first = explorer.picture
    assert explorer.set(width=1).setting == {"height": 5, "width": 3.0}
    assert explorer.picture != first


def test_all_settings_are_drawn_ahead_in_order_where_the_environment_asks(monkeypatch):
    explorer = _explorer(width=Slider("b < c", [0.5, 3.0], text=lambda v: f"'{v}' wide"))
    monkeypatch.setenv("VIBTHEORY_FRAMES", "1")
    page = explorer._repr_mimebundle_()[0]["text/html"]
    assert explorer.setting == {"height": 5, "width": 0.5}
    frames = json.loads(re.search("<script type='application/json'>(.*)</script>", page)[1])
    dark = [(np.asarray(Image.open(io.BytesIO(base64.b64decode(frame))).convert("L")) < 200).sum() for frame in frames]
    assert len(dark) == 6
    assert dark[0] < dark[2] < dark[4]  # taller
    assert all(narrow < wide for narrow, wide in zip(dark[::2], dark[1::2], strict=True))
    assert page.count("type='range'") == 2
    assert frames[2] == re.search("base64,([^']*)'", page)[1]  # shown first: height 5, width 0.5
    assert "b &lt; c" in page
    assert json.loads(html.unescape(re.findall("data-words='([^']*)'", page)[1])) == ["'0.5' wide", "'3.0' wide"]


def test_explorer_displays_widget_and_picture():
    bundle, metadata = _explorer()._repr_mimebundle_()
    assert {"image/png", "text/plain"} < set(bundle)
    assert any("widget" in key for key in bundle)
    assert metadata["image/png"]["alt"] == bundle["text/plain"] == "a bar"


def test_headline_passes_prints_and_fails():
    table = str(headline(("count", 3, 3), ("length", 1.26, 1.25, 0.02), ("word", "yes", "yes")))
    assert "1.25 ± 0.02" in table
    with pytest.raises(HeadlineError, match=r"length: 1.3, expected 1.25 ± 0.02; word: no"):
        headline(("length", 1.3, 1.25, 0.02), ("word", "no", "yes"))
    assert "True" in str(headline(("of numpy", np.bool_(True), True)))
    with pytest.raises(HeadlineError, match="lost"):
        headline(("lost", float("nan"), 1.0, 5.0))


def _notebook(text, tags=(), picture="words"):
    cell = v4.new_code_cell("x", metadata={"tags": list(tags)})
    cell.outputs = [
        v4.new_output("stream", text=text),
        v4.new_output("display_data", data={"text/plain": picture, "application/vnd.jupyter.widget-view+json": {}}),
    ]
    return v4.new_notebook(cells=[v4.new_markdown_cell("# T\n\nOne\nline.\n\nMore."), cell])


@pytest.mark.parametrize(
    ("old", "new", "tags", "count"),
    [
        ("a 1.0000 b", "a 1.0001 b", [], 0),
        ("a 1.000 b", "a 1.010 b", [], 1),
        ("a 1.000 b", "a 1.010 b", ["approximate"], 0),
        ("a 1.000 b", "a 1.200 b", ["approximate"], 1),
        ("a 100 b", "a 60 b", ["within 2"], 0),
        ("a 100 b", "a 210 b", ["within 2"], 1),
        ("a 1e-12 b", "a 3e-16 b", [], 0),
        ("a −2 b", "a 2 b", [], 1),
        ("open", "closed", [], 1),
        ("open 1", "open 1 2", [], 1),
        ("3.2 s", "9.9 s and more", ["varies"], 0),
    ],
)
def test_differences(old, new, tags, count):
    assert len(comparing.differences(_notebook(old, tags), _notebook(new, tags))) == count


def test_strip_removes_widgets_and_keeps_tags():
    notebook = _notebook("x", ["thumbnail"])
    notebook.metadata["widgets"] = {"state": 1}
    notebook.cells[1].metadata["execution"] = {"time": 1}
    stripped = notebooks.strip(notebook)
    assert set(stripped.metadata) == {"kernelspec", "language_info"}
    assert stripped.cells[1].metadata == {"tags": ["thumbnail"]}
    assert set(stripped.cells[1].outputs[1].data) == {"text/plain"}
    assert notebooks.summary(stripped) == ("T", "One line.")


def test_run_executes_cells_and_solutions(tmp_path):
    source = v4.new_notebook(cells=[v4.new_markdown_cell("# T"), v4.new_code_cell("a = 3\nprint(a)")])
    path, solution = tmp_path / "n.ipynb", tmp_path / "solutions" / "n.py"
    notebooks.write(source, path)
    solution.parent.mkdir()
    solution.write_text("raise SystemError('before the first')\n# %% 01.1\nassert a == 3\n# %% 01.2\nassert a == 4\n")
    assert notebooks.solutions(path) == {"01.1": "\nassert a == 3\n", "01.2": "\nassert a == 4\n"}
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="assert a == 4"):
        notebooks.run(notebooks.read(path), path)
    solution.unlink()
    done = notebooks.run(notebooks.read(path), path)
    assert comparing.printed(done.cells[1]) == "3\n"
    assert len(done.cells) == 2


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_answers(name):
    """Not answered, wrongly, and with what is its truth; notebooks/solutions/ find the truth another way."""
    exercise, state = EXERCISES[name], torch.get_rng_state()
    unanswered = check(name, None)
    assert (unanswered.right, bool(unanswered)) == (None, False)
    assert "in the place of None" in repr(unanswered)
    assert len(exercise.hint) > 20
    if isinstance(truth := exercise.truth(), str):
        assert check(name, f" {truth.upper()}")
        wrong = check(name, "nothing")
        assert exercise.hint in repr(wrong)
    else:
        assert check(name, truth)
        wrong, other = check(name, truth + 1.01 * exercise.tolerance + 0.01), check(name, truth - 3)
        assert f"too large. Hint: {exercise.hint}" in repr(wrong)
        assert "too small" in repr(other)
        assert "a number is asked for" in repr(check(name, "many"))
    assert wrong.right is False
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("form", [lambda v: [v], np.array, lambda v: np.array([v]), lambda v: pd.Series([v]), str,
                                  lambda v: torch.tensor([v], requires_grad=True), Fraction])  # fmt: skip
def test_a_right_number_is_right_in_any_form(form):
    assert check("03.1", form(0.8047))
    assert not check("03.1", form(0.7))


@pytest.mark.parametrize("answer", [[0.8047, 0.8047], [], "0,8047", pytest.param(10**400, id="huge"), 1j, print])
def test_what_is_not_one_number_is_asked_for_again(answer):
    assert "a number is asked for" in repr(check("03.1", answer))


def test_words_in_quotes_and_numbers_to_three_digits_are_right():
    assert check("00.1", "“up”.")
    assert not check("00.1", "“down”.")
    for name, rounded in (("09.1", 1.56), ("09.3", 1820)):  # 1/.8² = 1.5625, 1/5.5e-4 = 1818.2
        assert check(name, rounded)


def test_records_round_trip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, 1 / 3]})
    path = write_recorded("small", table, tmp_path / "notebooks" / "recorded")
    assert path.read_text().startswith("# python -m vibtheory.teaching record small\n")
    inside = tmp_path / "notebooks"
    monkeypatch.chdir(inside)
    pd.testing.assert_frame_equal(recorded("small"), table, rtol=1e-7)
    assert project_file("notebooks/recorded/small.csv") == path


def test_live_reads_the_environment(monkeypatch):
    for value, answer in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("VIBTHEORY_LIVE", value)
        assert live() is answer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: show(_draw(), " "), "alt: got ' '"),
        (lambda: animate(_draw, [], "nothing"), "values: got none"),
        (lambda: animate(_draw, [1], "a bar", seconds=0), "seconds: got 0"),
        (lambda: Slider("x", [1]), "values: got 1 of them"),
        (lambda: Slider("x", [1, 2], start=2), "start: got 2, expected an index in 0 … 1"),
        (lambda: Explorer(_draw, "no sliders"), "sliders: got none"),
        (lambda: _explorer().set(depth=0), "slider: got 'depth', expected one of height"),
        (lambda: _explorer().set(height=3), "height: got 3, expected an index in 0 … 2"),
        (headline, "rows: got none"),
        (lambda: headline(("what", 1)), "rows: got a row of 2"),
        (lambda: check("99.1", 1), "name: got '99.1', expected one of 00.1"),
        (lambda: record_all(["nothing"], None), "name: got 'nothing', expected one of bottleneck_curve"),
    ],
)
def test_invalid_input(call, message):
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        call()
    plt.close("all")


def test_missing_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="open the notebook inside"):
        recorded("nothing")
    (tmp_path / "n.ipynb").write_text("no json")
    with pytest.raises(DataError, match=r"pass a \.ipynb file"):
        notebooks.read(tmp_path / "n.ipynb")
    assert main(["run", str(tmp_path / "missing.ipynb")]) == 2
    assert "Remedy" in capsys.readouterr().err
