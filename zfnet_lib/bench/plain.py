"""What the peers run: the network as a careful reader of the paper writes it, with torch's own modules."""

from __future__ import annotations

import torch
from torch import nn

from ..network import ConvNet


def plain_layers(net: ConvNet, side: int) -> dict[str, nn.Sequential]:
    """Return what leads from one layer's rectified maps to the next one's, in NCHW, with the network's weights.

    Args:
        net: The network; its normalisation, if any, follows the pools.
        side: Of the pictures, in pixels.

    Returns:
        By convolutional layer, from the picture upwards; last `output`, what the last one hands on.
    """
    shapes, layers, between = net.spec.shapes(side, side), {}, []
    for conv in net.spec.convs:
        overhang = conv.overhang(side)
        pad = [nn.ZeroPad2d((0, overhang, 0, overhang))] if overhang else []
        layers[conv.name] = nn.Sequential(*between, *pad, net.get_submodule(conv.name), nn.ReLU())
        between = [nn.MaxPool2d(3, 2, ceil_mode=True)] if conv.pool else []
        between += [nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)] if conv.norm else []
        side = shapes[conv.pool_name if conv.pool else conv.name][1]
    return layers | {"output": nn.Sequential(*between)}


@torch.no_grad()
def with_random_weights(net: ConvNet) -> ConvNet:
    """Give a network weights, drawn by seed, with which activations neither fade nor grow, and moderate logits."""
    generator = torch.Generator().manual_seed(0)
    for layer, fan_in in net.spec.fan_in().items():
        net.get_submodule(layer).weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    if net.spec.classes:
        net.fc8.weight /= 16
    return net.eval()
