"""Names of `evidence`, for modules that are not ported yet."""

from .evidence import *  # noqa: F403
from .evidence import (  # noqa: F401
    FAILS,
    HOLDS,
    NOT_RUN,
    SEEDS,
    UNDECIDED,
    UNTESTABLE,
    VERDICTS,
    Finding,
    Number,
)
