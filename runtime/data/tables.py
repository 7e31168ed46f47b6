"""Tables beside images: CSV, TSV, and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvdsl.runtime.data.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")
_LARGEST = 1 << 30  # bytes
_FILES = ("file", "file_name", "filename", "name", "path", "image", "image_id", "id")
_MISSING = ("", "nan", "na", "null", "none")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: what stands in it, by file name."""

    name: str
    texts: Mapping[str, str]

    @property
    def present(self) -> dict[str, str]:
        """The texts that say something."""
        return {file: text for file, text in self.texts.items() if text.strip().lower() not in _MISSING}

    def numbers(self) -> dict[str, list[float]] | None:
        """What each text says in numbers; None where one of them is no number."""
        try:
            return {text: [float(word) for word in text.split()] for text in set(self.present.values())}
        except ValueError:
            return None


def read_table(path: Path) -> dict[str, Column]:
    """Return the columns of a table, but that of the file names.

    That is called `file`, `file_name`, `name`, `path`, `image` or `id`, or is the first.

    Raises:
        DataError: not readable, no rows, or two rows for one file.
    """
    try:
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is no table: give one that ends in {', '.join(SUFFIXES)}, or a folder of images")
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} is larger than {_LARGEST:,} bytes: this is no table of images")
        text = _text(path)
        in_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
        rows = _json_rows(text) if in_json else _csv_rows(text)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 (byte {error.start} begins no character): save it as UTF-8") from error
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    key = next((c for c in _FILES for have in rows[0] if have.lower() == c), next(iter(rows[0])))
    key = next(have for have in rows[0] if have.lower() == key.lower())
    columns: dict[str, dict[str, str]] = {column: {} for row in rows for column in row if column != key}
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        name = row.get(key, "")
        if name in seen:
            raise DataError(f"{path} has two rows for {name} (the second is row {number}): keep one")
        seen.add(name)
        for column, value in row.items():
            if column != key:
                columns[column][name] = value
    return {name: Column(name, texts) for name, texts in columns.items()}


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in the UTF-16 that spreadsheets write, known by its first bytes."""
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _csv_rows(text: str) -> list[dict[str, str]]:
    head = next(iter(text.splitlines()), "")
    between = max((",", "\t", ";"), key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=between, restkey="", restval="")
    names = [name.strip() for name in reader.fieldnames or ()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two columns are called `{twice}`")
    rows = []
    for row in reader:
        if row.pop("", None):
            raise ValueError(f"line {reader.line_num} has more values than there are columns")
        rows.append({key.strip(): value.strip() for key, value in row.items()})
    return rows


def _json_rows(text: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
        rows.append({str(key): _json_text(value) for key, value in row.items()})
    return rows


def _json_text(value: object) -> str:
    """A value as a table in text would have it; a list of numbers is several numbers."""
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return " ".join(str(float(each)) for each in value)
    return "" if value is None else str(value)
