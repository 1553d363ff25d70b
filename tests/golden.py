"""Sizes, parameters and multiply-accumulates of the named networks, counted from their published layer tables.

Nothing of the library takes part: layers are typed from the papers, an oracle counts positions one by one.
"""

from oracles import starts

# Filters, side, stride, padding, groups; a pool (3x3, stride 2) has no numbers; a dense layer has its units.
FIG_3 = {
    "conv1": (96, 7, 2, 0, 1),
    "pool1": (),
    "conv2": (256, 5, 2, 0, 1),
    "pool2": (),
    "conv3": (384, 3, 1, 1, 1),
    "conv4": (384, 3, 1, 1, 1),
    "conv5": (256, 3, 1, 1, 1),
    "pool5": (),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}
REPLICA = FIG_3 | {
    "conv1": (96, 11, 4, 0, 1),
    "conv2": (256, 5, 1, 2, 2),
    "conv4": (384, 3, 1, 1, 2),
    "conv5": (256, 3, 1, 1, 2),
}
MORE_MAPS = FIG_3 | {"conv3": (512, 3, 1, 1, 1), "conv4": (1024, 3, 1, 1, 1), "conv5": (512, 3, 1, 1, 1)}
EIGHTH = {name: (numbers[0] // 8, *numbers[1:]) if numbers else () for name, numbers in FIG_3.items()}


def without(*names: str) -> dict[str, tuple]:
    return {name: numbers for name, numbers in REPLICA.items() if name not in names}


def wide(layers: dict[str, tuple], units: int) -> dict[str, tuple]:
    return layers | {"fc6": (units,), "fc7": (units,)}


LAYERS = {
    "krizhevsky": REPLICA,
    "krizhevsky-without-3-4": without("conv3", "conv4"),
    "krizhevsky-without-7": without("fc7"),
    "krizhevsky-without-6-7": without("fc6", "fc7"),
    "krizhevsky-without-3-4-6-7": without("conv3", "conv4", "fc6", "fc7"),
    "krizhevsky-fc-2048": wide(REPLICA, 2048),
    "krizhevsky-fc-8192": wide(REPLICA, 8192),
    "zfnet": FIG_3,
    "zfnet-fc-2048": wide(FIG_3, 2048),
    "zfnet-fc-8192": wide(FIG_3, 8192),
    "zfnet-maps-512-1024-512": MORE_MAPS,
    "zfnet-fc-8192-maps-512-1024-512": wide(MORE_MAPS, 8192),
    "zfnet-11x11": FIG_3 | {"conv1": (96, 11, 2, 0, 1)},
    "krizhevsky-7x7": REPLICA | {"conv1": (96, 7, 4, 0, 1)},
    "mini": EIGHTH | {"fc8": (16,)},
}
"""In the order of Table 2; then the crossed stems and the small network."""


def count(name: str) -> dict[str, dict]:
    """Walk up the layers; every filter has a weight for each value it sees, and a bias."""
    maps, side = 3, 64 if name == "mini" else 224
    shapes, parameters, macs = {"input": (maps, side, side)}, {}, {}
    for layer, numbers in LAYERS[name].items():
        if not numbers:
            side = len(starts(side, 3, 2))
        elif len(numbers) == 1:
            weights = maps * side * side * numbers[0]
            maps, side = numbers[0], 1
            parameters[layer], macs[layer] = weights + maps, weights
        else:
            filters, kernel, stride, padding, groups = numbers
            side = len(starts(side, kernel, stride, padding))
            weights = filters * (maps // groups) * kernel * kernel
            maps = filters
            parameters[layer], macs[layer] = weights + filters, weights * side * side
        shapes[layer] = (maps, side, side)
    return {"shapes": shapes, "parameters": parameters, "macs": macs}
