"""What a machine's own table has, for those who agree on statistics: columns, their numbers, names and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gossip.errors import DataError
from gossip.learning.data import columns as inputs
from gossip.learning.data import extras, frames, keys, tables, targets
from gossip.learning.data.arrays import Array
from gossip.learning.data.preparation import Column
from gossip.learning.data.subsets import set_aside
from gossip.learning.objectives.base import whole
from gossip.learning.settings import DataSettings, IidPartition
from gossip.learning.sources import TABLE_KEYS, TABLES

Sort: TypeAlias = Literal["number", "text", "empty"]
"""Of a column; empty: it has no value at all, and may hold either elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Of the rows that are learnt from; those to test on count where names are collected, and nowhere else."""

    sorts: Mapping[str, Sort]
    """Column -> what it holds, in the order of the inputs, without those whose vocabulary `[data] categories` has."""
    numbers: Mapping[str, Array]
    """Column of numbers -> (rows,) float64, not a number where a value is missing."""
    words: Mapping[str, Counter[str]]
    """Column of text -> its values, and how many rows have each."""
    class_names: Counter[str] | None
    """Where labels are names that `[data] class_names` does not list."""
    label_max: int | None
    """Where labels are numbers of classes, and `[data] classes` does not say how many there are."""


def own_table(settings: DataSettings, *, folder: Path, seed: int, classifies: bool) -> Own:
    """Read this machine's table.

    Args:
        settings: `[data]`.
        folder: paths are relative to it.
        seed: of the draw of rows to test on.
        classifies: whether labels are classes.

    Raises:
        DataError: no table, or nothing that can be learnt from.
    """
    path = folder / Path(settings.source).expanduser()
    if not settings.source.lower().endswith(TABLES):
        raise DataError(
            f"[data] source = '{settings.source}': statistics are agreed on for tables ({', '.join(TABLES)})"
        )
    keys.refuse_others(settings, "test", "test_fraction", *TABLE_KEYS)
    # Where one file is divided, its own texts are the vocabulary: so they are taken here, to be told.
    settings = settings.model_copy(update={"partition": IidPartition()})
    train = frames.read(path, texts=settings.categories)
    test = None
    if settings.test is not None:
        test = frames.read(folder / settings.test, texts=settings.categories, key="[data] test")
    target = tables.target_of(train, settings)
    columns = inputs.chosen(train, settings, target, () if test is None else (test,))
    part = tables.part_of(train, columns, target, settings, settings.source)
    learnt = (
        part.x if test is not None else part.x[~set_aside(part.y, settings, seed=seed, classifies=classifies)]
    )
    numbers = {
        column.name: learnt[:, place.start]
        for column, place in zip(columns, inputs.places(columns), strict=True)
        if column.vocabulary is None
    }
    both = [train] if test is None else [train, test]
    told = [column for column in columns if column.name not in settings.categories]
    labels = [part.y] if test is None else [part.y, tables.target_values(test, target, settings.source)]
    names, label_max = _classes(labels, settings, target) if classifies else (None, None)
    return Own(
        sorts={column.name: _sort(train, column) for column in told},
        numbers=numbers,
        words={
            column.name: Counter(
                word for table in both for word in inputs.texts(table, column.name) if word is not None
            )
            for column in told
            if column.vocabulary is not None
        },
        class_names=names,
        label_max=label_max,
    )


def _sort(table: Any, column: Column) -> Sort:
    if column.vocabulary is not None:
        return "text"
    types = extras.arrow(column.name).types
    return "empty" if types.is_null(table.schema.field(column.name).type) else "number"


def _classes(
    labels: list[Array], settings: DataSettings, target: str
) -> tuple[Counter[str] | None, int | None]:
    if settings.class_names is not None:
        return None, None
    if all(map(targets.is_text, labels)):
        return Counter(word for part in labels for word in part.tolist()), None
    if settings.classes is not None:
        return None, None
    return None, max(
        int(whole(part, source=settings.source, key=target, what="class numbers").max()) for part in labels
    )
