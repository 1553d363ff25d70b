"""A reproduction of Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks* (ECCV 2014)."""

from .activations import strongest
from .checkpoints import load_network, save_network
from .datasets import open_dataset
from .deconv import Unit, deconv, deconv_units, project, unpool
from .files import ZfnetError
from .network import ConvNet
from .occlusion import Occlusion, occlude
from .ranking import Hits, Ranking
from .specs import KRIZHEVSKY, MINI, TABLE_2, ZFNET

__all__ = [
    "KRIZHEVSKY",
    "MINI",
    "TABLE_2",
    "ZFNET",
    "ConvNet",
    "Hits",
    "Occlusion",
    "Ranking",
    "Unit",
    "ZfnetError",
    "deconv",
    "deconv_units",
    "load_network",
    "occlude",
    "open_dataset",
    "project",
    "save_network",
    "strongest",
    "unpool",
]
