"""Class numbers of what a source calls its samples' classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from gossip.errors import DataError
from gossip.learning.data.arrays import Array
from gossip.learning.objectives.base import Objective
from gossip.learning.settings import DataSettings

SHOWN = 12
"""Names in a sentence."""


def is_text(array: Array) -> bool:
    """Return whether labels are names and not numbers."""
    return array.dtype.kind == "U"


def toml(words: Iterable[str]) -> str:
    """Return names as they are written in a settings file; of many the first, and how many more there are."""
    listed = list(words)
    more = f", … {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"[{', '.join(json.dumps(word, ensure_ascii=False) for word in listed[:SHOWN])}{more}]"


def class_names(
    labels: Sequence[Array], settings: DataSettings, *, target: str, known: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers; none where the labels are numbers only.

    Args:
        labels: all there are, numbers or text, to train and to test on.
        settings: `[data]`.
        target: what the source calls them, for sentences.
        known: the names that the source itself says.

    Raises:
        DataError: the labels are text, every machine has its own data, and nothing says which classes there are.
    """
    if settings.class_names is not None:
        return settings.class_names
    if known is not None:
        return known
    if not all(map(is_text, labels)):
        return ()
    there = sorted({name for part in labels for name in part.ravel().tolist()})
    if settings.partition.kind == "own":
        raise DataError(
            f"{settings.source}: '{target}' holds names, and every machine has its own data; say which classes there "
            f"are, the same on all: [data] class_names = {toml(there)} (found here), or have the peers find "
            "out together: `gossip-node statistics`"
        )
    return tuple(there)


def place_of(index: int, rows: Array | None) -> str:
    """Return where a label is, for a sentence: of a table its row, of which `rows` (n,) are the numbers."""
    return f"at {index}" if rows is None else f"in row {rows[index]}"


def numbers(
    labels: Array,
    names: tuple[str, ...],
    source: str,
    target: str,
    objective: Objective,
    *,
    rows: Array | None = None,
) -> Array:
    """Return targets (n, …) of what a source says: of text its place in `names`; numbers as the objective takes them.

    Names that all are whole numbers themselves are looked up, too: with class_names = ["3", "5"] a label 5 is class 1.
    `rows` as `place_of` takes them.

    Raises:
        DataError: a label is not among the names; or no class number.
    """
    if not is_text(labels):
        found = objective.targets(labels, source=source, key=target)
        if not names:
            return found
        if not all(name.isdecimal() for name in names):
            return _below(found, names, source, target, rows)
        labels = found.astype(str)
    elif not names:
        return objective.targets(labels, source=source, key=target)  # which says what is wrong
    if labels.ndim != 1:
        raise DataError(
            f"{source}: '{target}' has shape {labels.shape}; it must be (samples,), one name each"
        )
    different, places = np.unique(labels, return_inverse=True)
    number = {name: place for place, name in enumerate(names)}
    for word in different.tolist():
        if word not in number:
            first = int(np.argmax(labels == word))
            raise DataError(
                f"{source}: '{target}' holds {json.dumps(word, ensure_ascii=False)} {place_of(first, rows)}, which "
                f"is not among the class names {toml(names)}"
            )
    return np.array([number[word] for word in different.tolist()], dtype=np.int64)[places]


def _below(labels: Array, names: tuple[str, ...], source: str, target: str, rows: Array | None) -> Array:
    place = int(np.argmax(labels))
    if labels[place] >= len(names):
        raise DataError(
            f"{source}: '{target}' holds {labels[place]} {place_of(place, rows)}; [data] class_names has "
            f"{len(names)} names, for 0 … {len(names) - 1}"
        )
    return labels
