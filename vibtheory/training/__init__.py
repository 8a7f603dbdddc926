"""Training gated networks: cross-entropy plus the price of information, resumable, on one device or many.

Read `recipe` first, then `single` (one run: `train`), `loop` (its epochs and steps) and `checkpoint`.
"""

from vibtheory.training.many import train_many as train_many
from vibtheory.training.recipe import Recipe as Recipe
from vibtheory.training.run import Run as Run
from vibtheory.training.run import load as load
from vibtheory.training.single import train as train
