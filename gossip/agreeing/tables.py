"""What peers tell of their tables, whether these fit together, and the statistics that all of them have in the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import tomli_w
from pydantic import Field, ValidationError

from gossip.agreeing.sums import NUMBERS, moments, sums
from gossip.errors import DataError
from gossip.learning.data.columns import CATEGORIES_MAX
from gossip.learning.data.measuring import Own, Sort
from gossip.protocols.base import PeerId
from gossip.settings import Settings

HEAD = "# Agreed on by all peers (gossip-node statistics), the same bytes on each; for [data] statistics.\n"

_PAIR = re.compile(r"\[\n    ([-+.\de]+),\n    ([-+.\de]+),\n\]")
"""Mean and deviation, which stand on one line."""

CLASSES_MAX = 100_000
CLASSES_BY_ONE_MAX = 1000
"""Up to so many a network's output layer costs little; of more, one peer's word is enough for half."""

COLUMNS_MAX = 10_000
NAME_CHARACTERS_MAX = 1000
SHOWN_CHARACTERS_MAX = 80
"""Of a name in a sentence."""

Name = Annotated[str, Field(max_length=NAME_CHARACTERS_MAX)]
Names = Annotated[list[Name], Field(max_length=CLASSES_MAX)]


class Have(Settings):
    """What one peer tells all: names, and no numbers of its own."""

    columns: Annotated[list[tuple[Name, Sort]], Field(strict=False, max_length=COLUMNS_MAX)]
    """Those of a sample in their order, and what they hold."""
    words: dict[Name, Names]
    """Column of text -> the values that rows enough have."""
    class_names: Names | None
    label_max: int | None = Field(ge=0, lt=CLASSES_MAX)

    def packed(self) -> bytes:
        """Return it as it travels."""
        return self.model_dump_json().encode()

    @classmethod
    def of(cls, own: Own, *, count_min: int) -> Have:
        """Return what is told of the own table; of its texts those that `count_min` rows have at least."""
        return cls(
            columns=list(own.sorts.items()),
            words={
                column: sorted(word for word, count in words.items() if count >= count_min)
                for column, words in own.words.items()
            },
            class_names=None if own.class_names is None else sorted(own.class_names),
            label_max=own.label_max,
        )


@dataclass(frozen=True, slots=True)
class Schema:
    """What all tables have in common."""

    numbers: tuple[str, ...]
    """Columns of numbers, in the order of their sums."""
    categories: Mapping[str, tuple[str, ...]]
    class_names: tuple[str, ...] | None
    classes: int | None


def common(told: Mapping[PeerId, bytes]) -> Schema:
    """Return what all peers' tables have in common.

    Raises:
        DataError: they do not fit together; one sentence naming peers and column. All peers come to the same one.
    """
    haves = {peer: _parsed(peer, told[peer]) for peer in sorted(told)}
    first, *_ = haves
    order = [name for name, _ in haves[first].columns]
    for peer, have in haves.items():
        _refuse_other_columns(first, order, peer, [name for name, _ in have.columns])
    sorts: dict[str, tuple[PeerId, Sort]] = {}
    for peer, have in haves.items():
        for name, sort in have.columns:
            before, known = sorts.setdefault(name, (peer, sort))
            if known == "empty":
                sorts[name] = (peer, sort)
            elif sort not in ("empty", known):
                raise DataError(
                    f"column '{_shown(name)}' holds {_told(known)} at {before} and {_told(sort)} at {peer}; say "
                    "[data.categories] if these are names, or make them alike"
                )
    texts = [name for name in order if sorts[name][1] == "text"]
    categories = {name: _union(*(have.words.get(name, []) for have in haves.values())) for name in texts}
    for name, words in categories.items():
        if not 0 < len(words) <= CATEGORIES_MAX:
            many = f"{len(words)} different texts" if words else "no text that rows enough have"
            column = _shown(name)
            raise DataError(
                f"column '{column}' holds {many} at all peers together; leave it out, [data] drop = [\"{column}\"]"
            )
    names, classes = _classes(haves)
    return Schema(
        numbers=tuple(name for name in order if sorts[name][1] != "text"),
        categories=categories,
        class_names=names,
        classes=classes,
    )


def _classes(haves: Mapping[PeerId, Have]) -> tuple[tuple[str, ...] | None, int | None]:
    """Return the classes' names, or how many there are where labels are numbers.

    Raises:
        DataError: some have names and others numbers; there is one class only, or a multitude by one peer's word.
    """
    named = {peer: have.class_names for peer, have in haves.items() if have.class_names is not None}
    numbered = {peer: have.label_max + 1 for peer, have in haves.items() if have.label_max is not None}
    if named and numbered:
        raise DataError(f"labels are names at {min(named)} and numbers at {min(numbered)}; make them alike")
    if named:
        names = _union(*named.values())
        if len(names) < 2:
            raise DataError(
                f"all labels of all peers are '{_shown(names[0])}'; there is nothing to tell apart"
            )
        told = Counter(name for each in named.values() for name in set(each))
        for peer, own in named.items():
            _refuse_one_word(peer, len(names), len(names) - sum(told[name] == 1 for name in set(own)))
        return names, None
    if not numbered:
        return None, None
    second, most = sorted([0, *numbered.values()])[-2:]
    _refuse_one_word(max(numbered, key=lambda peer: numbered[peer]), most, second)
    return None, most


def _refuse_one_word(peer: PeerId, classes: int, others: int) -> None:
    """Raise `DataError` where a network gets most of many outputs by what one peer says, who may lie."""
    if classes > CLASSES_BY_ONE_MAX and classes > 2 * others:
        raise DataError(
            f"{peer} alone tells of most of {classes} classes, all others together of {others}; if that is so, say it "
            "on all, [data] classes or class_names, and if not, make its labels right"
        )


def _shown(name: str) -> str:
    """Return a name that a peer tells as terminals and logs may have it."""
    return "".join(character if character.isprintable() else "?" for character in name[:SHOWN_CHARACTERS_MAX])


def _told(sort: Sort) -> str:
    return "numbers" if sort == "number" else "text"


def _union(*lists: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({word for each in lists for word in each}))


def _parsed(peer: PeerId, data: bytes) -> Have:
    try:
        have = Have.model_validate_json(data)
    except ValidationError:
        raise DataError(
            f"what {peer} tells of its table is no such thing; does it run the same version?"
        ) from None
    if len(dict(have.columns)) < len(have.columns):
        raise DataError(f"{peer} tells of two columns with one name")
    return have


def _refuse_other_columns(first: PeerId, order: list[str], peer: PeerId, names: list[str]) -> None:
    if names == order:
        return
    for one, other, has, lacks in ((first, peer, order, names), (peer, first, names, order)):
        there = frozenset(lacks)
        lacking = next((name for name in has if name not in there), None)
        if lacking is not None:
            raise DataError(
                f"{other} has no column '{_shown(lacking)}', which {one} has; say the same on all, [data] columns or "
                "drop"
            )
    raise DataError(
        f"{first} and {peer} have the same columns in another order; say one on all, [data] columns = […]"
    )


def own_sums(schema: Schema, own: Own) -> list[int]:
    """Return this peer's numbers, those of the schema's columns one after the other.

    Raises:
        DataError: a number is too large.
    """
    found: list[int] = []
    for name in schema.numbers:
        try:
            found += sums(own.numbers[name])
        except ValueError as error:
            raise DataError(f"column '{name}': {error}, and no input of a network") from None
    return found


def statistics(schema: Schema, numbers: Sequence[int]) -> bytes:
    """Return the file that all peers have in the end, from the sums over all of them.

    Raises:
        DataError: a column has no value anywhere; or no rows have such sums.
    """
    pairs: dict[str, list[float]] = {}
    for place, name in enumerate(schema.numbers):
        count, first, second = numbers[NUMBERS * place : NUMBERS * (place + 1)]
        if count == 0:
            column = _shown(name)
            raise DataError(
                f"column '{column}' has no value in any peer's rows; leave it out, [data] drop = [\"{column}\"]"
            )
        try:
            pairs[name] = list(moments(count, first, second))
        except ValueError as error:
            raise DataError(
                f"column '{_shown(name)}': {error}; a peer tells what is not so, or its masks are not the same"
            ) from None
    tables: dict[str, object] = {}
    if schema.class_names is not None:
        tables["class_names"] = list(schema.class_names)
    if schema.classes is not None:
        tables["classes"] = schema.classes
    pieces = [HEAD, tomli_w.dumps(tables)]
    if pairs:
        pieces.append("\n" + _PAIR.sub(r"[\1, \2]", tomli_w.dumps({"statistics": pairs})))
    if schema.categories:
        words = {name: list(each) for name, each in schema.categories.items()}
        pieces.append("\n" + tomli_w.dumps({"categories": words}))
    return "".join(pieces).encode()
