"""Images: a folder for each class, or files and bytes by themselves; read with Pillow into bytes, channels first."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import extras, keys, rows
from gossip.learning.data.arrays import Array
from gossip.learning.data.found import Found
from gossip.learning.data.preparation import Images, Preparation
from gossip.learning.data.targets import toml
from gossip.learning.settings import DataSettings

MODE = "RGB"
"""Where `[data] image_mode` does not say."""

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of more than eight bits a pixel, of which it would cut what is above 255."""

SOME = 3
"""Files named in a sentence."""


class Picture(NamedTuple):
    """Where an image is: a file, or bytes in a table."""

    name: str
    content: Path | bytes


class PictureRows:
    """Images (n, channels, height, width) uint8, decoded when they are asked for."""

    draws = False

    def __init__(self, pictures: Sequence[Picture], how: Images, *, first: Picture | None) -> None:
        self._pictures, self._how, self._first = pictures, how, first
        self.shape = (len(pictures), len(how.mode), *how.size)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def take(self, numbers: npt.NDArray[np.int64]) -> Array:
        """Return the images with these numbers."""
        return pixels([self._pictures[number] for number in numbers], self._how, first=self._first)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name; hidden ones are none."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_folders(settings: DataSettings, root: Path, test: Path | None) -> Found:
    """Return the images of `root`/CLASS, or of `root`/train/CLASS and `root`/test/CLASS.

    Raises:
        DataError: one sentence naming the folder or the image.
    """
    doubts: list[str] = []
    train = root
    if any(entry.name == "train" for entry in subfolders(root)):
        train = root / "train"
        if (root / "test").is_dir():
            keys.refuse_test_keys(settings)
            test = root / "test"
        unused = [each.name for each in subfolders(root) if each not in (train, test)]
        if unused:
            doubts.append(
                f"{settings.source}: beside train and test there is {', '.join(unused)}, which is not used"
            )
    if test is not None and not test.is_dir():
        raise DataError(f"[data] test: there is no folder {test}")
    folders = [train] if test is None else [train, test]
    listed = [_listed(folder, doubts) for folder in folders]
    names = tuple(sorted({name for part in listed for name, _ in part}))
    if len(names) < 2 and settings.class_names is None:
        raise DataError(
            f"{train} has {len(names)} sub-folder{'s' * (len(names) != 1)}; images lie in one for each class, two at "
            "least"
        )
    if settings.class_names is None and settings.partition.kind == "own":
        doubts.append(told_order(settings, names))
    pictures = [Picture(str(path), path) for part in listed for _, path in part]
    how, first = _how(pictures, settings)
    count = len(listed[0])
    xs = [_read(part, how, first, settings) for part in (pictures[:count], pictures[count:])]
    labels = np.array([name for part in listed for name, _ in part], dtype=np.str_)
    return Found(
        x_train=xs[0],
        y_train=labels[:count],
        x_test=None if test is None else xs[1],
        y_test=None if test is None else labels[count:],
        target="folder",
        class_names=names,
        preparation=Preparation(images=how),
        doubts=tuple(doubts),
    )


def _read(
    pictures: Sequence[Picture], how: Images, first: Picture | None, settings: DataSettings
) -> Array | PictureRows:
    if rows.stay((len(pictures), len(how.mode), *how.size), settings.mapped):
        return PictureRows(pictures, how, first=first)
    return pixels(pictures, how, first=first)


def told_order(settings: DataSettings, names: Sequence[str]) -> str:
    """Return that the classes are those found here, and that others may find others."""
    return (
        f"{settings.source}: the classes are {', '.join(names)}, in this order, as found here; where a peer's data "
        f"have others, numbers mean something else there. The same on all: [data] class_names = {toml(names)}"
    )


def _listed(folder: Path, doubts: list[str]) -> list[tuple[str, Path]]:
    """Return (class, file) of all images below `folder`, sorted; files that are no images by their names are told."""
    known = extras.pillow(folder).registered_extensions()
    found: list[tuple[str, Path]] = []
    others: list[Path] = []
    for each in subfolders(folder):
        for path in _files(each):
            if path.suffix.lower() in known:
                found.append((each.name, path))
            else:
                others.append(path)
    loose = [each for each in folder.iterdir() if each.is_file() and each.suffix.lower() in known]
    loose = [each for each in loose if not each.name.startswith(".")]
    if loose:
        doubts.append(
            f"{folder}: {len(loose)} images lie in no sub-folder, so that nothing says their class, and are not used"
        )
    there = {name for name, _ in found}
    empty = [each.name for each in subfolders(folder) if each.name not in there]
    if found and empty:
        doubts.append(
            f"{folder}: no images in {', '.join(empty)}, so there is no such class, unless class_names has it"
        )
    if others:
        some = ", ".join(str(path) for path in others[:SOME]) + ", …" * (len(others) > SOME)
        doubts.append(f"{folder}: {len(others)} files are no images by their names, and not used: {some}")
    if not found:
        raise DataError(f"{folder}: there are no images in its sub-folders")
    return found


def _files(folder: Path) -> Iterator[Path]:
    for parent, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(files) if not name.startswith("."))


def read_pictures(pictures: Sequence[Picture], settings: DataSettings) -> tuple[Array, tuple[int, int]]:
    """Return images (n, channels, height, width) uint8, n >= 1, and height and width.

    Raises:
        DataError: one cannot be read; or they differ in size, and `[data] image_size` does not say one.
    """
    how, first = _how(pictures, settings)
    return pixels(pictures, how, first=first), how.size


def _how(pictures: Sequence[Picture], settings: DataSettings) -> tuple[Images, Picture | None]:
    """Return how images are read, and the one whose size all must have, where `[data] image_size` says none."""
    first = None if settings.image_size else pictures[0]
    size = settings.image_size or size_of(pictures[0])
    return Images(size=size, mode=settings.image_mode or MODE), first


def pixels(pictures: Sequence[Picture], how: Images, *, first: Picture | None = None) -> Array:
    """Return images (n, channels, height, width) uint8; of another size they are scaled, or refused beside `first`."""
    height, width = how.size
    stack = np.empty((len(pictures), len(how.mode), height, width), dtype=np.uint8)
    for row, picture in zip(stack, pictures, strict=True):
        with_pixels = _opened(picture)
        if with_pixels.size != (width, height) and first is not None:
            raise DataError(
                f"{picture.name} has {with_pixels.height} × {with_pixels.width} pixels, and {first.name} "
                f"{height} × {width}; [data] image_size = [{height}, {width}] scales all to one size"
            )
        row[:] = _converted(with_pixels, how)
    return stack


def size_of(picture: Picture) -> tuple[int, int]:
    """Return height and width in pixels, upright."""
    image = _opened(picture)
    return image.height, image.width


def _opened(picture: Picture) -> Any:
    """Return the image, decoded and upright, as the camera says how it was held."""
    pillow = extras.pillow(picture.name)
    from PIL import ImageOps

    content = picture.content
    try:
        with pillow.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
    except Exception as failure:  # each format fails in ways of its own
        raise DataError(f"{picture.name} is no readable image: {user_code.one_line(failure)}") from failure
    if upright.mode in DEEP:
        raise DataError(
            f"{picture.name} has more than 8 bits a pixel (mode {upright.mode}), which would be cut off; bring it into "
            "arrays of your own: a .npz, or python:FILE:FUNCTION"
        )
    return upright


def _converted(image: Any, how: Images) -> Array:
    pillow = extras.pillow("an image")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert(how.mode)
    if image.size != (how.size[1], how.size[0]):
        image = image.resize((how.size[1], how.size[0]), pillow.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)  # (height, width) or (height, width, channels)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def prepare(raw: Iterable[Path | bytes], preparation: Preparation) -> Array:
    """Return new images (n, channels, height, width) uint8 of the size and mode that the training images had.

    Raises:
        DataError: one cannot be read; there are none.
    """
    assert preparation.images is not None
    pictures = [
        Picture(f"image {number}" if isinstance(each, bytes) else str(each), each)
        for number, each in enumerate(raw)
    ]
    if not pictures:
        raise DataError("there are no images")
    return pixels(pictures, preparation.images)
