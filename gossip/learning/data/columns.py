"""Which inputs the columns of a table become: a number, or one input for each value of a vocabulary that all share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gossip.errors import DataError
from gossip.learning.data import extras, frames
from gossip.learning.data.arrays import Array
from gossip.learning.data.frames import quoted
from gossip.learning.data.preparation import Column
from gossip.learning.data.targets import toml
from gossip.learning.settings import DataSettings
from gossip.parameters import COUNT_MAX

CATEGORIES_MAX = 1000
"""A vocabulary that is taken from a file and is larger than this is one of names, of dates, of free text."""

DRESS = str.maketrans("", "", "%€$£,' \u00a0")
"""What is beside numbers where people read them."""

NAMES_MIN = 10
NAMES_SHARE = 0.5
"""Of a column of text: so many different values, and as large a share of the rows, may be names of rows."""

NUMBERS_SHARE = 0.5
"""Of a column of text: more numbers than this, and what is none is a mistake."""


def chosen(table: Any, settings: DataSettings, target: str, others: Sequence[Any] = ()) -> tuple[Column, ...]:
    """Return the columns that are a sample, with their vocabularies; `others` are further tables of the same.

    Raises:
        DataError: one sentence naming the column.
    """
    source = settings.source
    for key in ("columns", "drop", "categories"):
        frames.known(table, getattr(settings, key) or (), key=f"[data] {key}", source=source)
    if target in (settings.columns or ()):
        raise DataError(f"[data] columns: '{target}' is the target; it cannot be an input, too")
    if settings.columns is not None:
        names = list(settings.columns)
    else:
        left_out = {target, *(settings.drop or ())}
        names = [name for name in table.column_names if name not in left_out]
    if not names:
        raise DataError(f"{source}: no column is left to learn from (columns: {frames.listed(table)})")
    unused = next((name for name in settings.categories if name not in names), None)
    if unused is not None:
        raise DataError(
            f"[data.categories] {quoted(unused)}: the column is no part of a sample; take it away"
        )
    _refuse_without_vocabulary(table, names, settings)
    return tuple(_column(name, [table, *others], settings) for name in names)


def _column(name: str, tables: Sequence[Any], settings: DataSettings) -> Column:
    if name in settings.categories:
        return Column(name=name, vocabulary=tuple(settings.categories[name]))
    if is_number(tables[0], name):
        return Column(name=name)
    # A test table that lacks the column, or has numbers there, is refused where it is encoded.
    alike = [table for table in tables if name in table.column_names and is_text(table, name)]
    there = sorted({word for table in alike for word in different(table, name)})
    if len(there) > CATEGORIES_MAX:
        raise DataError(
            f"{settings.source}: column '{name}' holds {len(there)} different texts; leave it out, [data] drop = "
            f'["{name}"], or say which count, [data.categories] {quoted(name)} = […]'
        )
    return Column(name=name, vocabulary=tuple(there))


def _refuse_without_vocabulary(table: Any, names: Sequence[str], settings: DataSettings) -> None:
    texts = [name for name in names if name not in settings.categories and not is_number(table, name)]
    for name in texts:
        _refuse_other_sorts(table, name, settings.source)
        _refuse_odd_numbers(table, name, settings.source)
    if not texts or settings.partition.kind != "own":
        return
    lines = "; ".join(f"{quoted(name)} = {toml(sorted(different(table, name)))}" for name in texts[:3])
    raise DataError(
        f"{settings.source}: {_columns(texts)} text, and every machine has its own data; say which values there are, "
        f"the same on all, under [data.categories]: {lines}{'; …' * (len(texts) > 3)} (found here), or leave out what "
        f"is none of the sample, [data] drop = {toml(texts)}; `gossip-node statistics` has the peers find out the rest"
    )


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"column '{names[0]}' holds"
    return "columns " + ", ".join(f"'{name}'" for name in names) + " hold"


def is_number(table: Any, name: str) -> bool:
    """Return whether a column holds numbers, yes or no, or no value at all."""
    types = extras.arrow(name).types
    sort = table.schema.field(name).type
    return bool(
        types.is_integer(sort)
        or types.is_floating(sort)
        or types.is_boolean(sort)
        or types.is_decimal(sort)
        or types.is_null(sort)  # no value at all: a number that is always missing
    )


def is_text(table: Any, name: str) -> bool:
    """Return whether a column holds text, plain or in a dictionary."""
    types = extras.arrow(name).types
    sort = table.schema.field(name).type
    sort = sort.value_type if types.is_dictionary(sort) else sort
    return bool(types.is_string(sort) or types.is_large_string(sort) or types.is_string_view(sort))


def _refuse_other_sorts(table: Any, name: str, source: str) -> None:
    if not is_text(table, name):
        raise DataError(
            f"{source}: column '{name}' holds {table.schema.field(name).type}; numbers and text can be learnt from. "
            f"Leave it out: [data] drop = {toml([name])}"
        )


def _refuse_odd_numbers(table: Any, name: str, source: str) -> None:
    """A column of numbers with one `?` is text to who reads it, and a vocabulary of them no help to anybody."""
    words = texts(table, name)
    odd = [(row, word) for row, word in enumerate(words, start=1) if word is not None and not _parses(word)]
    dressed = [(row, word) for row, word in odd if _parses(word.translate(DRESS))]
    if len(dressed) > NUMBERS_SHARE * sum(word is not None for word in words):
        row, word = dressed[0]
        raise DataError(
            f"{source}: column '{name}' holds numbers as text, such as '{word}' in row {row}; write them with a point "
            "and nothing else, or write [data.categories] if these are names"
        )
    numbers = sum(word is not None for word in words) - len(odd)
    if odd and numbers > max(1, NUMBERS_SHARE * (numbers + len(odd))):
        row, word = odd[0]
        raise DataError(
            f"{source}: column '{name}' holds numbers but for '{word}' in row {row} ({len(odd)} such rows); leave the "
            "value empty where it is missing, or write [data.categories] if these are names"
        )


def _parses(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def texts(table: Any, name: str) -> list[str | None]:
    """Return a column's values as text, `None` where one is missing; of numbers and yes or no, as they are written."""
    pa = extras.arrow(name)
    column = table.column(name)
    return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def different(table: Any, name: str) -> set[str]:
    """Return the different values of a column of text."""
    pa = extras.arrow(name)
    return {
        word
        for word in pa.compute.unique(table.column(name).cast(pa.string())).to_pylist()
        if word is not None
    }


def encode(table: Any, columns: Sequence[Column], source: str) -> Array:
    """Return (rows, inputs) float64: numbers as they are, categories one-hot; not a number where a value is missing.

    Raises:
        DataError: a column is not there or of another sort; a value is in no vocabulary, or infinite.
    """
    encoded = np.empty((table.num_rows, sum(column.width for column in columns)))
    for column, place in zip(columns, places(columns), strict=True):
        if column.name not in table.column_names:
            raise DataError(f"{source}: there is no column '{column.name}' (columns: {frames.listed(table)})")
        if column.vocabulary is None:
            encoded[:, place.start] = _numbers(table, column.name, source)
        else:
            encoded[:, place] = _one_hot(table, column.name, column.vocabulary, source)
    return encoded


def places(columns: Sequence[Column]) -> Iterator[slice]:
    """Yield which inputs each column becomes."""
    start = 0
    for column in columns:
        yield slice(start, start + column.width)
        start += column.width


def _numbers(table: Any, name: str, source: str) -> Array:
    pa = extras.arrow(source)
    if not is_number(table, name):
        raise DataError(
            f"{source}: column '{name}' holds {table.schema.field(name).type}; numbers are needed"
        )
    column = table.column(name)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found = column.cast(pa.float64(), safe=False).to_numpy()  # a missing value comes out as not a number
    infinite = np.isinf(found)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(
            f"{source}: column '{name}' holds {found[row]} in row {row + 1}; finite numbers are needed"
        )
    return np.asarray(found, dtype=np.float64)


def _one_hot(table: Any, name: str, vocabulary: tuple[str, ...], source: str) -> Array:
    number = {word: place for place, word in enumerate(vocabulary)}
    words = texts(table, name)
    hot = np.zeros((len(words), len(vocabulary)))
    for row, word in enumerate(words):
        if word is None:
            hot[row] = np.nan
        elif word in number:
            hot[row, number[word]] = 1
        else:
            raise DataError(
                f"{source}: column '{name}' holds '{word}' in row {row + 1}, which is not among [data.categories] "
                f"{quoted(name)} = {toml(vocabulary)}"
            )
    return hot


def refuse_missing(
    encoded: Array, columns: Sequence[Column], source: str, advice: str, *, but: Collection[Column] = ()
) -> None:
    """Refuse what is missing in (rows, inputs), `but` in some columns.

    Raises:
        DataError: naming the first such column, its first row and how many there are.
    """
    for column, place in zip(columns, places(columns), strict=True):
        gone = np.isnan(encoded[:, place.start])
        if column not in but and gone.any():
            count = int(gone.sum())
            raise DataError(
                f"{source}: column '{column.name}' has no value in row {int(np.argmax(gone)) + 1} ({count} such "
                f"row{'s' * (count > 1)} of {len(gone)}); {advice}"
            )


def finished(encoded: Array, columns: Sequence[Column]) -> Array:
    """Return (rows, inputs) float32, filled and standardised as the columns say."""
    done = encoded.copy()
    for column, place in zip(columns, places(columns), strict=True):
        if column.vocabulary is None:
            values = done[:, place.start]
            if column.fill is not None:
                values = np.where(np.isnan(values), column.fill, values)
            done[:, place.start] = (values - column.mean) / column.std
    with np.errstate(over="ignore"):  # what overflows is found when the samples are checked
        return done.astype(np.float32)


def measured(encoded: Array, columns: Sequence[Column], settings: DataSettings) -> tuple[Column, ...]:
    """Return the columns of numbers with mean, standard deviation and what stands for a missing value.

    Args:
        encoded: this machine's training rows (rows, inputs), not a number where a value is missing.
        columns: as they were encoded.
        settings: `[data]`; `standardise` says whose statistics count. Others, such as ones that the peers agree on,
            come in here.

    Raises:
        DataError: statistics are given of other columns.
    """
    numbers = [column.name for column in columns if column.vocabulary is None]
    for name in settings.statistics:
        if name not in numbers:
            raise DataError(f"[data.statistics] {quoted(name)}: no column of numbers is called so")
    lacking = [name for name in numbers if name not in settings.statistics]
    if settings.standardise == "given" and lacking:
        raise DataError(
            f"[data.statistics]: {_columns(lacking)} numbers; write [mean, standard deviation] of each, [0, 1] for one "
            "that is to stay as it is"
        )
    return tuple(
        column if column.vocabulary is not None else _measured(encoded[:, place.start], column, settings)
        for column, place in zip(columns, places(columns), strict=True)
    )


def _measured(values: Array, column: Column, settings: DataSettings) -> Column:
    there = values[~np.isnan(values)]
    if not len(there) and settings.missing == "mean" and settings.standardise != "given":
        raise DataError(
            f"{settings.source}: column '{column.name}' has no value in any training row, and so no mean; leave it "
            f"out: [data] drop = {toml([column.name])}"
        )
    mean, std = 0.0, 1.0
    if settings.standardise == "given":
        mean, std = settings.statistics[column.name]
    elif settings.standardise == "own" and len(there):
        mean, std = float(there.mean()), float(there.std()) or 1.0
    fill = None
    if settings.missing == "mean":
        fill = mean if settings.standardise == "given" else float(there.mean())
    return replace(column, mean=mean, std=std, fill=fill)


def doubts(table: Any, columns: Sequence[Column], source: str) -> Iterator[str]:
    """Yield what may be a mistake: numbers so large that they are rather names of rows, one value for all."""
    pa = extras.arrow(source)
    for column in columns:
        values = table.column(column.name)
        count = len(column.vocabulary or ())
        if count > max(NAMES_MIN, NAMES_SHARE * table.num_rows):
            yield (
                f"{source}: column '{column.name}' is text with {count} values in {table.num_rows} rows, each an "
                f"input of its own; if they name the rows, leave them out: [data] drop = {toml([column.name])}"
            )
        if column.vocabulary is not None or not pa.types.is_integer(values.type):
            continue
        span = pa.compute.min_max(values).as_py()
        largest = max(abs(span["min"] or 0), abs(span["max"] or 0))
        if largest > COUNT_MAX and column.std == 1:
            yield (
                f"{source}: column '{column.name}' holds whole numbers up to {largest}, of which float32 loses the "
                f"last digits; if they name the rows, leave them out: [data] drop = {toml([column.name])}"
            )
