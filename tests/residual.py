"""A small network that is no sequence of layers."""

from torch import nn
from torch.nn import functional as F


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
