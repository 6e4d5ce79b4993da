from .backbones import normalise_images as normalise_images
from .network import SegmentationNetwork as SegmentationNetwork
from .network import build_model as build_model
from .released import load_released_checkpoint as load_released_checkpoint
from .saving import load_network as load_network
from .saving import save_network as save_network
from .weights import CheckpointError as CheckpointError
