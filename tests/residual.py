"""A small network that is no sequence of layers."""

import torch
from torch import nn
from torch.nn import functional as F

from zfnet_lib.probe import ProbedNet
from zfnet_lib.weights import load_network


class Small(nn.Module):
    """A residual network with BatchNorm, a padded pool and a classifier, of one channel if asked for."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.pool, self.block = nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.top, self.head = nn.Conv2d(8, 5, 3, stride=2), nn.Linear(5, 4)

    def forward(self, x):
        x = self.pool(self.stem(x))
        x = F.relu(x + self.block(x))
        return self.head(F.relu(self.top(x)).mean((2, 3)))


def residual(side: int = 32, layers: list[str] | None = None, channels: int = 3) -> ProbedNet:
    """Return the network as it is probed, always with the same weights."""
    torch.manual_seed(0)
    return load_network(Small(channels), image_size=side, layers=layers)
