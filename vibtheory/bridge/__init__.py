"""A trained network and data become quadratic bounds ḡ, channels and reports: the only place where torch meets theory.

Read `checking` first, then `kinds` (which ḡ exist, by strength of guarantee; docs/theory.md, T5), `trained` (T8:
without any ḡ) and `channels`.
"""

from vibtheory.bridge.channels import layer_law as layer_law
from vibtheory.bridge.checking import check_network as check_network
from vibtheory.bridge.checking import quadratic_bound as quadratic_bound
from vibtheory.bridge.checking import verify_bound as verify_bound
from vibtheory.bridge.kinds import BoundOptions as BoundOptions
from vibtheory.bridge.layer_information import LayerInformation as LayerInformation
from vibtheory.bridge.layer_information import information_of as information_of
from vibtheory.bridge.trained import check_trained as check_trained
