"""What is wrong with data."""

from hvdsl.errors import HvdslError


class DataError(HvdslError):
    """Data that is missing, damaged or not what the spec says."""
