"""Sizes, parameters and multiply-accumulates of the named networks, counted from their published layer tables.

Nothing of the library takes part: layers are typed from the papers, positions are counted one by one.
"""

from __future__ import annotations

# Name, filters, side, stride, padding, groups; a pool is its name alone (3x3, stride 2); a dense layer has a width.
DENSE = [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)]
FIG_3 = [
    ("conv1", 96, 7, 2, 0, 1),
    ("pool1",),
    ("conv2", 256, 5, 2, 0, 1),
    ("pool2",),
    ("conv3", 384, 3, 1, 1, 1),
    ("conv4", 384, 3, 1, 1, 1),
    ("conv5", 256, 3, 1, 1, 1),
    ("pool5",),
    *DENSE,
]
REPLICA = [
    ("conv1", 96, 11, 4, 0, 1),
    ("pool1",),
    ("conv2", 256, 5, 1, 2, 2),
    ("pool2",),
    ("conv3", 384, 3, 1, 1, 1),
    ("conv4", 384, 3, 1, 1, 2),
    ("conv5", 256, 3, 1, 1, 2),
    ("pool5",),
    *DENSE,
]


def without(layers: list[tuple], *names: str) -> list[tuple]:
    return [layer for layer in layers if layer[0] not in names]


def changed(layers: list[tuple], place: int, **values: int) -> list[tuple]:
    """Put other numbers of maps or units (place 1), or sides of filters (place 2)."""
    return [
        (*layer[:place], values[layer[0]], *layer[place + 1 :]) if layer[0] in values else layer for layer in layers
    ]


def wide(layers: list[tuple], units: int) -> list[tuple]:
    return changed(layers, 1, fc6=units, fc7=units)


MORE_MAPS = changed(FIG_3, 1, conv3=512, conv4=1024, conv5=512)
EIGHTH = {"conv1": 12, "conv2": 32, "conv3": 48, "conv4": 48, "conv5": 32, "fc6": 512, "fc7": 512, "fc8": 16}

# Input size and layers, in the order of Table 2; then the crossed stems and the small network.
LAYERS = {
    "krizhevsky": (224, REPLICA),
    "krizhevsky-without-3-4": (224, without(REPLICA, "conv3", "conv4")),
    "krizhevsky-without-7": (224, without(REPLICA, "fc7")),
    "krizhevsky-without-6-7": (224, without(REPLICA, "fc6", "fc7")),
    "krizhevsky-without-3-4-6-7": (224, without(REPLICA, "conv3", "conv4", "fc6", "fc7")),
    "krizhevsky-fc-2048": (224, wide(REPLICA, 2048)),
    "krizhevsky-fc-8192": (224, wide(REPLICA, 8192)),
    "zfnet": (224, FIG_3),
    "zfnet-fc-2048": (224, wide(FIG_3, 2048)),
    "zfnet-fc-8192": (224, wide(FIG_3, 8192)),
    "zfnet-maps-512-1024-512": (224, MORE_MAPS),
    "zfnet-fc-8192-maps-512-1024-512": (224, wide(MORE_MAPS, 8192)),
    "zfnet-11x11": (224, changed(FIG_3, 2, conv1=11)),
    "krizhevsky-7x7": (224, changed(REPLICA, 2, conv1=7)),
    "mini": (64, changed(FIG_3, 1, **EIGHTH)),
}


def positions(side: int, kernel: int, stride: int, padding: int) -> int:
    """Count steps until the filter or region has covered everything, as cuda-convnet does."""
    start, count = 0, 1
    while start + kernel < side + 2 * padding:
        start += stride
        count += 1
    return count


def count(image_size: int, layers: list[tuple]) -> dict[str, dict]:
    """Walk up the layers; every filter has a weight for each value it sees, and a bias."""
    maps, side = 3, image_size
    shapes, parameters, macs = {"input": (maps, side, side)}, {}, {}
    for name, *numbers in layers:
        if not numbers:
            side = positions(side, 3, 2, 0)
        elif len(numbers) == 1:
            weights = maps * side * side * numbers[0]
            maps, side = numbers[0], 1
            parameters[name], macs[name] = weights + maps, weights
        else:
            filters, kernel, stride, padding, groups = numbers
            side = positions(side, kernel, stride, padding)
            weights = filters * (maps // groups) * kernel * kernel
            maps = filters
            parameters[name], macs[name] = weights + filters, weights * side * side
        shapes[name] = (maps, side, side)
    return {"shapes": shapes, "parameters": parameters, "macs": macs}


def table() -> dict[str, dict]:
    return {name: count(*network) for name, network in LAYERS.items()}
