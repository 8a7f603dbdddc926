"""Gate laws: VIB's, and those of the methods that the tables compare it with, behind one interface.

Read `law` first (what all share), then `vib`, then any other. `make_gate` builds one by name.
"""

from vibtheory.networks.gates.bc import GHSGate as GHSGate
from vibtheory.networks.gates.bc import GNJGate as GNJGate
from vibtheory.networks.gates.by_name import LAWS as LAWS
from vibtheory.networks.gates.by_name import make_gate as make_gate
from vibtheory.networks.gates.gd import GDGate as GDGate
from vibtheory.networks.gates.l0 import L0Gate as L0Gate
from vibtheory.networks.gates.law import GateLaw as GateLaw
from vibtheory.networks.gates.law import gate_information as gate_information
from vibtheory.networks.gates.law import named_gates as named_gates
from vibtheory.networks.gates.law import objective as objective
from vibtheory.networks.gates.rnp import RNPGate as RNPGate
from vibtheory.networks.gates.sbp import SBPGate as SBPGate
from vibtheory.networks.gates.vd import VDGate as VDGate
from vibtheory.networks.gates.vib import Gate as Gate
from vibtheory.networks.gates.vib import add_information_gradient as add_information_gradient
from vibtheory.networks.gates.vib import log1p_alpha as log1p_alpha
from vibtheory.networks.gates.vib import unit_prices as unit_prices
from vibtheory.networks.gates.vib import vib_gates as vib_gates
from vibtheory.networks.gates.weights import DNGate as DNGate
from vibtheory.networks.gates.weights import GLGate as GLGate
from vibtheory.networks.gates.weights import NSGate as NSGate
from vibtheory.networks.gates.weights import OpenGate as OpenGate
from vibtheory.networks.gates.weights import PFGate as PFGate
from vibtheory.networks.gates.weights import WeightLaw as WeightLaw
