"""Where a command may write: over no file unasked, and never over what a node keeps in its home."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gossip.errors import SettingError
from gossip.storage.run_record import HOME_FILES, IDENTITY


def refuse_existing(option: str, path: Path | None, force: bool) -> None:
    """Raise `SettingError` where a file would be replaced: it may be the user's data, or a model."""
    if path is not None and path.exists() and not force:
        raise SettingError(f"{option} {path}: is there already; give another name, or --force to replace it")


def refuse_kept(option: str, path: Path | None, models: Iterable[Path]) -> None:
    """Raise `SettingError` where a file of a node's home would be replaced, however it is asked for.

    Args:
        option: which names `path`, for sentences.
        path: to be written; by whatever path or link it leads there.
        models: the files that are read; what they lie in counts as homes.
    """
    if path is None:
        return
    sources = [model.expanduser() for model in models]
    for source in sources:
        if _same(path, source):
            raise SettingError(f"{option} {path}: is the model that is read, {source}; give another name")
    for home in _homes(path, sources):
        for name in HOME_FILES:
            if _same(path, home / name) or (home / name).resolve() in path.resolve().parents:
                raise SettingError(
                    f"{option} {path}: would replace what the node keeps in its home {home} ({name}); give another name"
                )


def _homes(path: Path, sources: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders of the sources, and each folder above the file that has a node's identity."""
    yield from {source.parent for source in sources}
    yield from (folder for folder in path.resolve().parents if (folder / IDENTITY).exists())


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve() or (
        path.exists() and other.exists() and path.samefile(other)  # a hard link
    )
