"""Images: what ships with the project, and readers for files. Only a name on a hub is downloaded."""

from hvdsl.runtime.data.dataset import Dataset, Splits
from hvdsl.runtime.data.errors import DataError
from hvdsl.runtime.data.open import open_given, open_splits

__all__ = ["DataError", "Dataset", "Splits", "open_given", "open_splits"]
