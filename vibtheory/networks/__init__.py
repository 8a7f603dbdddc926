"""Gated networks: the gate, the paper's networks, gates for any torch model, and what a gate sees.

Read `gates` first, then `lenet` and `vgg`, then `insertion`.
"""

from vibtheory.networks.gates import Gate as Gate
from vibtheory.networks.gates import make_gate as make_gate
from vibtheory.networks.gates import named_gates as named_gates
from vibtheory.networks.insertion import insert_gates as insert_gates
from vibtheory.networks.lenet import lenet_5_caffe as lenet_5_caffe
from vibtheory.networks.lenet import lenet_300_100 as lenet_300_100
from vibtheory.networks.lenet import mlp as mlp
from vibtheory.networks.streams import INITIAL_WEIGHTS as INITIAL_WEIGHTS
from vibtheory.networks.streams import random_stream as random_stream
from vibtheory.networks.vgg import vgg16_cifar as vgg16_cifar
from vibtheory.networks.vgg import vgg19_cifar as vgg19_cifar
