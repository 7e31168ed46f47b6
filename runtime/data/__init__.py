"""Images: what ships with the project, and readers for files. Nothing is ever downloaded."""

from hvdsl.runtime.data.dataset import DataError, Dataset, Splits
from hvdsl.runtime.data.open import open_data

__all__ = ["DataError", "Dataset", "Splits", "open_data"]
