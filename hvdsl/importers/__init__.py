"""Turn weights that other code bases published into runs."""

from hvdsl.importers.weights import WeightsError, read_release, read_weights, rename, sources

__all__ = ["WeightsError", "read_release", "read_weights", "rename", "sources"]
