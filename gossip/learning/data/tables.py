"""Samples in the rows of a table, with one column that is to be learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossip.errors import DataError
from gossip.learning.data import columns as inputs
from gossip.learning.data import extras, frames
from gossip.learning.data.arrays import Array
from gossip.learning.data.found import Found, FromRows
from gossip.learning.data.preparation import Column, Preparation
from gossip.learning.data.subsets import set_aside
from gossip.learning.data.targets import place_of
from gossip.learning.objectives.base import whole
from gossip.learning.settings import DataSettings
from gossip.learning.sources import TABLES

ADVICE = '[data] missing = "mean" or "drop", or fill it'


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a table, of which none lacks its target."""

    x: Array  # (n, inputs) float64, not a number where a value is missing
    y: Array  # (n,) as the column has it: numbers or text
    rows: Array  # (n,) their numbers from 1
    left_out: int
    """Rows that lacked a value."""


def read_tables(
    settings: DataSettings, path: Path, test: Path | None, *, seed: int, classifies: bool = True
) -> Found:
    """Return the rows of a file.

    Raises:
        DataError: one sentence naming file, column and row.
    """
    if test is not None and test.suffix.lower() not in TABLES:
        raise DataError(
            f"[data] test = '{settings.test}': a table like the source is needed ({', '.join(TABLES)})"
        )
    table = frames.read(path, texts=settings.categories)
    return of_tables(
        table,
        None if test is None else frames.read(test, texts=settings.categories, key="[data] test"),
        settings,
        seed=seed,
        classifies=classifies,
    )


def of_tables(
    train: Any,
    test: Any | None,
    settings: DataSettings,
    *,
    seed: int,
    classifies: bool = True,
    target: str | None = None,
    names: tuple[str, ...] | None = None,
) -> Found:
    """Return the rows of an arrow table and of one with test samples; without that, some of the first are drawn.

    Args:
        train: the table.
        test: the table of test samples, with the same columns.
        settings: `[data]`.
        seed: of the draw.
        classifies: whether labels are classes.
        target: the column of labels, where `[data] target` does not say.
        names: of the classes whose numbers are in that column.

    Raises:
        DataError: one sentence naming column and row.
    """
    source = settings.source
    target = target_of(train, settings, target)
    others = () if test is None else (test,)
    columns = inputs.chosen(train, settings, target, others)
    learnt = part_of(train, columns, target, settings, source)
    y_train = _named(learnt, names, source, target)
    rows = [FromRows(source, learnt.rows)]
    if test is None:
        tested = set_aside(y_train, settings, seed=seed, classifies=classifies)
        columns = inputs.measured(learnt.x[~tested], columns, settings)
        rest: dict[str, Array] = {"tested": tested}
        left_out = learnt.left_out
    else:
        called = settings.test or f"{source} (test)"
        other = part_of(test, columns, target, settings, called)
        columns = inputs.measured(learnt.x, columns, settings)
        rest = {"x_test": inputs.finished(other.x, columns), "y_test": _named(other, names, called, target)}
        rows.append(FromRows(called, other.rows))
        left_out = learnt.left_out + other.left_out
    return Found(
        x_train=inputs.finished(learnt.x, columns),
        y_train=y_train,
        **rest,
        target=target,
        rows=tuple(rows),
        class_names=names,
        preparation=Preparation(columns=columns),
        doubts=tuple(_doubts(train, columns, settings, left_out)),
    )


def target_of(table: Any, settings: DataSettings, default: str | None = None) -> str:
    """Return the column of labels.

    Raises:
        DataError: nothing says which it is, or there is none such.
    """
    target = settings.target or (default if default in table.column_names else None)
    if target is None:
        raise DataError(
            f"[data] target is missing: which column of {settings.source} is the label? (columns: "
            f"{frames.listed(table)})"
        )
    frames.known(table, [target], key="[data] target", source=settings.source)
    return target


def part_of(table: Any, columns: Sequence[Column], target: str, settings: DataSettings, source: str) -> Part:
    """Return a table's rows, as far as `[data] missing` does not leave them out.

    Raises:
        DataError: one sentence naming column and row.
    """
    if target not in table.column_names:
        raise DataError(f"{source}: there is no column '{target}' (columns: {frames.listed(table)})")
    x = inputs.encode(table, columns, source)
    there = ~table.column(target).is_null(nan_is_null=True).to_numpy()
    y = target_values(table, target, source)
    if settings.missing == "drop":
        there &= ~np.isnan(x).any(axis=1)
        if not there.any():
            raise DataError(f'{source}: every row lacks a value, and [data] missing = "drop" leaves none')
    elif not there.all():
        count = int((~there).sum())
        raise DataError(
            f"{source}: column '{target}', the target, has no value in row {int(np.argmin(there)) + 1} ({count} such "
            f'row{"s" * (count > 1)} of {len(there)}); [data] missing = "drop" leaves such rows out'
        )
    elif settings.missing == "refuse":
        inputs.refuse_missing(x, columns, source, ADVICE)
    else:
        numbers = [column for column in columns if column.vocabulary is None]
        advice = 'text has no mean: [data] missing = "drop", or fill it'
        inputs.refuse_missing(x, columns, source, advice, but=numbers)
    return Part(x[there], y[there], np.flatnonzero(there) + 1, int((~there).sum()))


def target_values(table: Any, name: str, source: str) -> Array:
    """Return the column of labels (rows,) as numpy has it, numbers or text; what is missing is anything.

    Raises:
        DataError: it holds neither.
    """
    pa = extras.arrow(source)
    column = table.column(name)
    if inputs.is_text(table, name):
        return np.array([word or "" for word in inputs.texts(table, name)], dtype=np.str_)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type):
        return np.asarray(pa.compute.fill_null(column, 0).to_numpy())
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return np.asarray(column.cast(pa.float64()).to_numpy())
    raise DataError(f"{source}: column '{name}', the target, holds {column.type}; labels are numbers or text")


def named(
    numbers: Array, names: tuple[str, ...], source: str, target: str, *, rows: Array | None = None
) -> Array:
    """Return the names of class numbers, where the source says them; `rows` as `place_of` takes them.

    Raises:
        DataError: there is no such class.
    """
    found = whole(numbers, source=source, key=target, what="class numbers")
    if found.max() >= len(names):
        place = int(np.argmax(found))
        raise DataError(
            f"{source}: '{target}' holds {found[place]} {place_of(place, rows)}; the source names {len(names)} classes"
        )
    called: Array = np.array(names, dtype=np.str_)[found]
    return called


def _named(part: Part, names: tuple[str, ...] | None, source: str, target: str) -> Array:
    return part.y if names is None else named(part.y, names, source, target, rows=part.rows)


def _doubts(table: Any, columns: Sequence[Column], settings: DataSettings, left_out: int) -> list[str]:
    found = list(inputs.doubts(table, columns, settings.source))
    if left_out:
        rows = "rows are" if left_out > 1 else "row is"
        found.append(
            f'{settings.source}: {left_out} {rows} left out for a missing value ([data] missing = "drop")'
        )
    if settings.standardise == "own" and settings.partition.kind == "own":
        found.append(
            f"{settings.source}: columns are standardised by this machine's own rows, so that a value means something "
            "else at every peer; statistics that `gossip-node statistics` agrees on make them alike"
        )
    return found


def prepare(raw: Path | Mapping[str, Any] | Any, preparation: Preparation, *, source: str) -> Array:
    """Return new rows (n, inputs) float32, prepared as the training rows were.

    Args:
        raw: a file, an arrow table, or column -> values.
        preparation: what was done.
        source: for sentences.

    Raises:
        DataError: a column is missing; a value is missing, of another sort, or in no vocabulary.
    """
    pa = extras.arrow(source)
    if isinstance(raw, Path):
        raw = frames.read(
            raw, texts=[each.name for each in preparation.columns if each.vocabulary is not None]
        )
    elif isinstance(raw, Mapping):
        try:
            raw = pa.table(dict(raw))
        except (pa.ArrowException, TypeError, ValueError) as failure:
            raise DataError(f"{source}: no table: {failure}") from failure
    encoded = inputs.encode(raw, preparation.columns, source)
    filled = [column for column in preparation.columns if column.fill is not None]
    inputs.refuse_missing(encoded, preparation.columns, source, "fill it", but=filled)
    return inputs.finished(encoded, preparation.columns)
