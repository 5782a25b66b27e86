"""What was done to samples before a network saw them, as plain values: it is saved with a model, and done again to
whatever the model is to be used on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gossip.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, and the inputs that it becomes: its number, or one input for each of its values."""

    name: str
    vocabulary: tuple[str, ...] | None = None
    """One-hot by these, in this order; `None`: a number."""
    mean: float = 0.0
    std: float = 1.0
    """The input is (number - mean) / std."""
    fill: float | None = None
    """The number that stands for a missing one; `None`: there must be none."""

    @property
    def width(self) -> int:
        """How many inputs it becomes."""
        return 1 if self.vocabulary is None else len(self.vocabulary)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        return {**values, "vocabulary": None if self.vocabulary is None else list(self.vocabulary)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Column:
        """Return what `as_dict` made values of."""
        words = values["vocabulary"]
        return cls(**{**values, "vocabulary": None if words is None else tuple(words)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """How image files became arrays (channels, height, width) of bytes."""

    size: tuple[int, int]
    """Height and width, in pixels, that all were scaled to."""
    mode: str
    """RGB or L."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"size": list(self.size), "mode": self.mode}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Images:
        """Return what `as_dict` made values of."""
        height, width = values["size"]
        return cls(size=(int(height), int(width)), mode=str(values["mode"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What was done to the samples before any network saw them; whoever uses the model must do the same."""

    divided_by: float = 1.0
    channel_axis: bool = False
    """Whether (height, width) became (1, height, width)."""
    columns: tuple[Column, ...] = ()
    """Of a table."""
    images: Images | None = None
    """Of image files."""
    class_names: tuple[str, ...] = ()
    """In the order of class numbers; empty where classes have numbers only."""

    def __str__(self) -> str:
        done = [f"divided by {self.divided_by:g}"] if self.divided_by != 1 else []
        if self.columns:
            done.append(
                f"{len(self.columns)} columns as {sum(column.width for column in self.columns)} inputs"
            )
        if any((column.mean, column.std) != (0, 1) for column in self.columns):
            done.append("standardised")
        if self.images is not None:
            done.append(f"read as {self.images.size[0]} × {self.images.size[1]} pixels ({self.images.mode})")
        return " and ".join([*done, *["given an axis of channels"] * self.channel_axis])

    @property
    def meaning(self) -> dict[str, Any]:
        """What the numbers of a sample and of its class stand for, as plain values: peers must have it in common.

        Empty where nobody said: arrays hold numbers only.
        """
        found: dict[str, Any] = {}
        if self.columns:
            found["columns"] = [[column.name, column.as_dict()["vocabulary"]] for column in self.columns]
        if self.images is not None:
            found["image_mode"] = self.images.mode
        if self.class_names:
            found["class_names"] = list(self.class_names)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `of` makes the same again."""
        return {
            "divided_by": self.divided_by,
            "channel_axis": self.channel_axis,
            "columns": [column.as_dict() for column in self.columns],
            "images": None if self.images is None else self.images.as_dict(),
            "class_names": list(self.class_names),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preparation:
        """Return what `as_dict` made values of.

        Raises:
            DataError: these are other values.
        """
        try:
            images = values["images"]
            return cls(
                divided_by=float(values["divided_by"]),
                channel_axis=bool(values["channel_axis"]),
                columns=tuple(Column.of(column) for column in values["columns"]),
                images=None if images is None else Images.of(images),
                class_names=tuple(map(str, values["class_names"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as failure:
            raise DataError(
                f"a saved preparation of samples is not as it must be: {type(failure).__name__}: {failure}"
            ) from failure


AS_IT_IS = Preparation()
"""Nothing was done."""
