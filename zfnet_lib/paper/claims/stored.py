"""Names of `evidence`, for modules that are not ported yet."""

from .evidence import *  # noqa: F403
from .evidence import Number, counted, difference, measured, over_seeds  # noqa: F401


def Measured(quantity, value, low, high, n, unit="", spread=None, place=None, data=""):  # noqa: N802
    return Number(value, low, high, n, unit, spread, quantity, place or {}, data)
