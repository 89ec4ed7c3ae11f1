"""A file of a table as cells of text: CSV, TSV and Parquet, with the line in which each row stands."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.errors import ConfigError, raise_all

SHOWN = 10  # problems of one file that are reported
FORMS = (
    "labels are a table with a column media and label columns, a folder of ABAW's VIDEO.txt, one of them, or a list of VIDEO/00001.jpg,values "
    "(docs/evaluation.md shows each)"
)


@dataclass(frozen=True)
class Cells:
    """A file as rows of cells: the header, the rows, and the line in which each stands (the row, where a file has no lines)."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    unit: str = "line"

    def column(self, index: int) -> list[str]:
        """The cells of one column."""
        return [row[index] for row in self.rows]

    def fail(self, wrong: Mapping[int, str]) -> None:
        """Raises what is wrong with rows, by row; nothing where nothing is."""
        raise_all([ConfigError(f"{self.path}, {self.unit} {self.lines[i]}: {wrong[i]}") for i in sorted(wrong)[:SHOWN]])


def read_text(path: Path, forms: str = FORMS) -> Cells:
    """A text file, separated by commas, semicolons or tabs, whichever its header has most of; lines of ``#`` before the header are skipped.

    Args:
        path: the file.
        forms: what files of its kind look like, for messages.

    Raises:
        ConfigError: where it is absent, no text in UTF-8, no table, or has no rows.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except FileNotFoundError:
        raise ConfigError(f"there are no labels at {path}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8; {forms}") from None
    except OSError as error:
        raise ConfigError(f"the labels {path} cannot be read: {error.strerror}") from None
    skipped = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    lines = lines[skipped:]
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(",\t;", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows, numbers = [], []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(cells)
                numbers.append(reader.line_num + skipped)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num + skipped}: not a row of a table ({error})") from error
    if not rows:
        raise ConfigError(f"{path} has {'a header and no rows' if header else 'nothing in it'}; {forms}")
    return Cells(path, header, rows, numbers)


def read_parquet(path: Path) -> Cells:
    """A Parquet file; what is empty or NaN is an empty cell.

    Raises:
        ConfigError: where it is absent, no Parquet, or has no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise ConfigError(f"there are no labels at {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {error}") from error
    columns = [["" if cell is None or cell != cell else str(cell) for cell in column.to_pylist()] for column in table.columns]
    if not table.num_rows:
        raise ConfigError(f"{path} has no rows; {FORMS}")
    return Cells(
        path,
        list(map(str, table.column_names)),
        [list(row) for row in zip(*columns, strict=True)],
        list(range(1, table.num_rows + 1)),
        "row",
    )


def as_number(cell: str) -> float | None:
    """The number in a cell, ``None`` where it is none."""
    try:
        return float(cell)
    except ValueError:
        return None


def floats(table: Cells, index: int, name: str, wrong: dict[int, str]) -> np.ndarray:
    """A column as (N,) float64, NaN for empty cells; cells that are no numbers are added to ``wrong``."""
    cells = [cell.strip() or "nan" for cell in table.column(index)]
    try:
        found = np.array(cells).astype(np.float64)
    except ValueError:
        numbers = [as_number(cell) for cell in cells]
        for i, value in enumerate(numbers):
            if value is None:
                wrong.setdefault(i, f"{name} must be a number, found {cells[i]!r}")
        found = np.array([np.nan if value is None else value for value in numbers])
    for i in np.flatnonzero(np.isinf(found)).tolist():
        wrong.setdefault(i, f"{name} must be a finite number, found {cells[i]!r}")
    return np.where(np.isinf(found), np.nan, found)


def shown(cells: Sequence[str]) -> str:
    """Cells for a message."""
    return (", ".join(cells) or "nothing")[:200]
