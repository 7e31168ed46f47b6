"""Turn weights that other code bases published into runs."""

from hvdsl.importers.names import WeightsError, rename, table
from hvdsl.importers.weights import read_weights

__all__ = ["WeightsError", "read_weights", "rename", "table"]
