"""What the notebooks stand on: pictures that move where a kernel runs, headline numbers, recorded runs.

Reading order:

1. `pictures`: a figure as PNG with alternative text, frames as one animation, sliders above a picture.
2. `headline`: the numbers that a notebook promises, checked in its last cell.
3. `exercises`: what a student's answer is compared with.
4. `records`: small CSV files that stand for slow runs, and the functions that make them again.
5. `notebooks`: run a notebook and its exercises' solutions (tests/notebooks compares with what is committed).
6. `gallery`: all notebooks as one static HTML site, their formulas by `mathml`.
7. `lite`: the notebooks that need no torch as a JupyterLite site.

On the command line: `python -m vibtheory.teaching run|record|gallery|lite`.
"""

from __future__ import annotations

from vibtheory.teaching.exercises import check
from vibtheory.teaching.headline import Headline, HeadlineError, headline
from vibtheory.teaching.pictures import Explorer, Picture, Slider, animate, show
from vibtheory.teaching.records import live, project_file, recorded

__all__ = [
    "Explorer",
    "Headline",
    "HeadlineError",
    "Picture",
    "Slider",
    "animate",
    "check",
    "headline",
    "live",
    "project_file",
    "recorded",
    "show",
]
