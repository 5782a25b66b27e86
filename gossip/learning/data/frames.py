"""Tables as they lie in files: comma- and tab-separated values, parquet, arrow; read whole, into arrow's columns."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from gossip.errors import DataError, nearest
from gossip.learning import user_code
from gossip.learning.data import extras

BLOCK_BYTES_MAX = 2**31 - 1
"""Arrow's largest block. What a column of text files holds is told by the first block; nearly always it is the only."""

COLUMNS_SHOWN = 20

DELIMITERS = ";\t|,"
LINE_BYTES_MAX = 1 << 20
LINE_SHOWN = 60


def read(path: Path, *, texts: Collection[str] = (), key: str = "[data] source") -> Any:
    """Return the table of a .csv, .tsv, .parquet or .arrow file that `key` names.

    `texts` are columns of .csv that stay text.

    Raises:
        DataError: one sentence naming the file.
    """
    if not path.is_file():
        raise DataError(f"{key}: there is no file {path}")
    pa = extras.arrow(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = pa.parquet.read_table(path, partitioning=None)
        elif path.suffix.lower() == ".arrow":
            table = _read_arrow(pa, path)
        else:
            table = _read_text(pa, path, texts)
    except (pa.ArrowException, OSError, ValueError) as failure:
        raise DataError(f"{path} is not a readable table: {user_code.one_line(failure)}") from failure
    return _checked(table, path)


def _read_text(pa: Any, path: Path, texts: Collection[str]) -> Any:
    size = path.stat().st_size
    tabs = path.suffix.lower() == ".tsv"
    _refuse_odd_text(path, "\t" if tabs else ",")
    uneven: list[Any] = []

    def noted(row: Any) -> str:
        uneven.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            path,
            # One block, so that a column's sort is told by all of it; in one thread, so that a mistake's row is told.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=min(size + 1, BLOCK_BYTES_MAX)),
            parse_options=pa.csv.ParseOptions(delimiter="\t" if tabs else ",", invalid_row_handler=noted),
            convert_options=pa.csv.ConvertOptions(
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                column_types=dict.fromkeys(texts, pa.string()),
            ),
        )
    except pa.ArrowInvalid:
        if uneven:
            raise _uneven(path, uneven[0]) from None
        raise


def _uneven(path: Path, row: Any) -> DataError:
    values = "1 value" if row.actual_columns == 1 else f"{row.actual_columns} values"
    columns = "1 column" if row.expected_columns == 1 else f"{row.expected_columns} columns"
    # Whoever reads the file counts the names of the columns as a row, too.
    return DataError(
        f"{path}: row {row.number - 1} has {values}, and there are {columns}: {row.text[:LINE_SHOWN]!r}; leave a value "
        "empty where it is missing, and put one that has a comma into quotes"
    )


def _refuse_odd_text(path: Path, delimiter: str) -> None:
    """Say what a file is that is no table of UTF-8 with that delimiter, as far as its first line tells."""
    with path.open("rb") as file:
        first = file.readline(LINE_BYTES_MAX)
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path}: is text in UTF-16; save it as UTF-8")
        try:
            # A character may be cut at the end.
            line = first.decode("utf-8-sig", errors="strict" if first.endswith(b"\n") else "ignore")
        except UnicodeDecodeError:
            raise DataError(f"{path}: the names of the columns are not in UTF-8; save it as UTF-8") from None
    line = line.strip("\r\n")
    if delimiter not in line and any(mark in line for mark in DELIMITERS):
        raise DataError(
            f"{path}: one column only, '{line[:LINE_SHOWN]}'; .csv files are separated by commas, .tsv files by tabs, "
            "and numbers have a point"
        )


def _read_arrow(pa: Any, path: Path) -> Any:
    with pa.OSFile(str(path)) as file:
        try:
            return pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_file(file).read_all()


def _checked(table: Any, path: Path) -> Any:
    names = list(table.column_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called '{twice}'")
    fields = zip(names, table.schema, strict=True)
    bad = next((name for name, field in fields if extras.arrow(path).types.is_binary(field.type)), None)
    if bad is not None and path.suffix.lower() in (".csv", ".tsv"):
        raise DataError(f"{path}: column '{bad}' holds text that is not in UTF-8; save it as UTF-8")
    if not table.num_rows:
        raise DataError(f"{path}: no rows below the names of the columns")
    return table


def joined(tables: Sequence[Any], source: object) -> Any:
    """Return the tables, of one dataset, one below the other.

    Raises:
        DataError: their columns differ.
    """
    pa = extras.arrow(source)
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as failure:
        raise DataError(
            f"{source}: the files have different columns: {user_code.one_line(failure)}"
        ) from failure


def known(table: Any, names: Collection[str], *, key: str, source: object) -> None:
    """Refuse names that no column has.

    Raises:
        DataError: one sentence with the columns there are.
    """
    for name in names:
        if name not in table.column_names:
            hint = nearest(name, table.column_names)
            hint = "" if hint.startswith("valid") else f"; {hint}"
            raise DataError(f"{key}: {source} has no column '{name}'{hint} (columns: {listed(table)})")


def listed(table: Any) -> str:
    """Return the names of the columns, for a sentence."""
    names = table.column_names
    more = f", … {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
    return ", ".join(names[:COLUMNS_SHOWN]) + more


def quoted(name: str) -> str:
    """Return a column's name as a key of a settings file."""
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)
