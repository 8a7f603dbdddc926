from .channels import layer_law as layer_law
from .checking import check_network as check_network
from .checking import quadratic_bound as quadratic_bound
from .checking import verify_bound as verify_bound
from .kinds import BoundOptions as BoundOptions
from .layer_information import LayerInformation as LayerInformation
from .layer_information import information_of as information_of
from .trained import check_trained as check_trained
