"""Names of `evidence`, for modules that are not ported yet."""

from .evidence import Scale, Subject  # noqa: F401
