"""A gated network becomes a plain, smaller one with the same outputs; what that saved; and handing it on.

Read `liveness`, then `cut` (`chain` for Sequentials; for the rest `following`, `graph`, `folding`), then `metrics`.
"""

from vibtheory.compression import metrics as metrics
from vibtheory.compression.cut import compress as compress
from vibtheory.compression.evaluation import evaluate as evaluate
from vibtheory.compression.export import export_onnx as export_onnx
from vibtheory.compression.export_c import export_c as export_c
from vibtheory.compression.merging import merge_redundant as merge_redundant
