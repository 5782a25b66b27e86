"""Where samples come from, and how they are read: the part of `[data]` that knows nothing of peers. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, StrictInt, StrictStr, model_validator

from gossip.settings import Settings

DIGITS = "digits"
"""The source that every machine has."""

TEST_FRACTION = 0.2
"""Of the samples of a source that has no test samples of its own."""

IMAGE_SIDE_MAX = 8192
"""Pixels; a photograph's longer side. A larger number is a mistake, and would not fit."""

TABLES = (".csv", ".tsv", ".parquet")
"""How the names of files end that are tables."""

TABLE_KEYS = ("target", "columns", "drop", "categories", "missing", "standardise", "statistics")
IMAGE_KEYS = ("image_size", "image_mode")


class SourceSettings(Settings):
    """How samples and labels are read."""

    shared: ClassVar[tuple[str, ...]] = (*TABLE_KEYS, *IMAGE_KEYS, "class_names")
    """What the numbers of a sample and of its class stand for, and is therefore the same at all peers."""

    source: str = Field(
        DIGITS,
        description='"digits"; a path to .npz, .csv, .tsv, .parquet, to a folder of images, of .npy, of parquet files, '
        'or of what datasets.save_to_disk wrote; or "python:FILE:FUNCTION"',
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed to a python: FUNCTION")
    scaling: Literal["auto", "unit", "none"] = Field(
        "auto",
        description="bytes (uint8) divided by 255: those of an image's shape (height, width), with or without channels "
        "(auto), all (unit), or none. Whole numbers else stay whole for networks of one's own that take them",
    )
    mapped: bool | Literal["auto"] = Field(
        "auto",
        description="arrays, images and datasets: samples are read and prepared a mini-batch at a time, and files of "
        "arrays are memory-mapped, instead of all at once; auto: where they would take more than 1 GiB as float32. "
        "This machine's own affair",
    )
    classes: int | None = Field(
        None,
        ge=2,
        description="number of classes; default: the largest label + 1 (state it where own data may lack one)",
    )
    test: str | None = Field(
        None, description="path of the test samples, a table or a folder of images as the source is"
    )
    test_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each class's samples, drawn by the seed, that are test samples where the source has none "
        f"of its own; default {TEST_FRACTION}",
    )
    target: str | None = Field(
        None, description="tables: the column of labels; default in a folder of parquet files: label"
    )
    columns: tuple[StrictStr, ...] | None = Field(
        None, strict=False, description="tables: the columns that are a sample, in this order; default: all"
    )
    drop: tuple[StrictStr, ...] | None = Field(
        None, strict=False, description="tables: columns that are no part of a sample"
    )
    categories: dict[str, list[str]] = Field(
        default_factory=dict,
        description="tables: column = [values], the vocabulary of a column that is one-hot, in the order of its "
        "inputs. A column of text needs one where each machine has its own data; where one file is divided, it is "
        "what the file holds",
    )
    class_names: tuple[StrictStr, ...] | None = Field(
        None,
        strict=False,
        description="names of the classes in the order of their numbers; labels that are text need them where each "
        "machine has its own data",
    )
    missing: Literal["refuse", "mean", "drop"] = Field(
        "refuse",
        description="tables: what becomes of a missing value: a sentence, the mean of its column's training rows (of "
        "[data.statistics] where these are given), or its row is left out",
    )
    standardise: Literal["none", "given", "own"] = Field(
        "none",
        description="tables: (value - mean) / standard deviation of columns of numbers, by [data.statistics] (given) "
        "or by the training rows that this machine has (own), whereby peers differ",
    )
    statistics: dict[str, list[float]] = Field(
        default_factory=dict,
        description="tables: column = [mean, standard deviation]; or the file that `gossip-node statistics` made, "
        'which brings standardise = "given", and categories and class names where there are any',
    )
    image_size: tuple[StrictInt, StrictInt] | None = Field(
        None, strict=False, description="images: [height, width] that all are scaled to; default: as they are"
    )
    image_mode: Literal["RGB", "L"] | None = Field(
        None, description="images: in colours (RGB, the default) or grey (L)"
    )

    def is_set(self, key: str) -> bool:
        """Return whether `key` says something else than its default."""
        return bool(getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True))

    def agreed(self) -> dict[str, Any]:
        """Return what peers must have in common of how samples are read: key -> plain value, of those that are set."""
        keys = [key for key in self.shared if self.is_set(key)]
        tables = self.model_dump(mode="json", include=set(keys))
        return {key: sorted(tables[key]) if key == "drop" else tables[key] for key in keys}

    @model_validator(mode="after")
    def _names(self) -> SourceSettings:
        lists: dict[str, Sequence[str] | None] = {
            "columns": self.columns,
            "drop": self.drop,
            "class_names": self.class_names,
        }
        lists |= {f"categories.{column}": words for column, words in self.categories.items()}
        for key, words in lists.items():
            if words is None:
                continue
            if not words:
                raise ValueError(f"{key} = []: names are needed, or leave it out")
            twice = next((word for word in words if list(words).count(word) > 1), None)
            if twice is not None:
                raise ValueError(f"{key}: '{twice}' stands there twice")
        if self.columns is not None and self.drop is not None:
            raise ValueError("'columns' and 'drop' exclude each other; write one of them")
        if self.class_names is not None and len(self.class_names) < 2:
            raise ValueError(f"class_names = {list(self.class_names)}: two classes at least")
        if self.class_names is not None and self.classes not in (None, len(self.class_names)):
            raise ValueError(f"classes = {self.classes}, but class_names has {len(self.class_names)}")
        return self

    @model_validator(mode="after")
    def _numbers(self) -> SourceSettings:
        for column, pair in self.statistics.items():
            if len(pair) != 2 or pair[1] <= 0:
                raise ValueError(f"statistics.{column} = {pair}: must be [mean, standard deviation > 0]")
        if self.statistics and self.standardise != "given":
            raise ValueError('statistics belong to standardise = "given"')
        if self.standardise == "given" and not self.statistics:
            raise ValueError(
                'standardise = "given" needs [data.statistics] column = [mean, standard deviation], or '
                'statistics = "FILE" (gossip-node statistics)'
            )
        if self.image_size is not None and not all(1 <= side <= IMAGE_SIDE_MAX for side in self.image_size):
            raise ValueError(
                f"image_size = {list(self.image_size)}: [height, width], 1 … {IMAGE_SIDE_MAX} each"
            )
        if self.test is not None and self.test_fraction is not None:
            raise ValueError(
                "'test' and 'test_fraction' exclude each other; write one of them (own_test keeps a share "
                "of own samples beside common test samples)"
            )
        return self
