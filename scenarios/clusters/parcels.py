"""A run's folder as bytes, and back: an archive of plain files, bounded before anything is written, free of pickle."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from gossip.net.identity import IDENTITY_FILE
from scenarios.run_folder import ENVIRONMENT, SCENARIO, SUMMARY, RunFolder, read_summary

UNPACKED_BYTES_MAX = 4 << 30
"""Of one run: its records are megabytes, and models of real nodes come with them."""

FILES_MAX = 200_000
"""A run of a thousand real nodes has some ten thousand."""

STAYS = frozenset({IDENTITY_FILE, ".lock"})
"""What never travels: private keys, and who writes there."""


class BadParcel(ValueError):
    """The bytes are not those of the run that was asked for; says why."""


def pack(folder: Path) -> bytes:
    """Return all plain files of a run's folder but private keys.

    Raises:
        BadParcel: it is larger than may be sent.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    files = [path for path in files if path.name not in STAYS]
    if len(files) > FILES_MAX or sum(path.stat().st_size for path in files) > UNPACKED_BYTES_MAX:
        raise BadParcel(
            f"the run's folder has more than {FILES_MAX} files or {UNPACKED_BYTES_MAX >> 30} GiB, more than is sent"
        )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())
    return made.getvalue()


def unpack(parcel: bytes, folder: Path, *, scenario: str) -> None:
    """Put a packed run in the place of what is in `folder`; its summary comes last, and marks it as finished.

    Raises:
        BadParcel: it is damaged, too large, names a file outside, or is not the finished run of `scenario`, the text of
            its scenario.toml. SettingError: the folder cannot be had.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".arriving-") as temporary:
        arrived = Path(temporary)
        _extract(parcel, arrived)
        try:
            found = (arrived / SCENARIO).read_text(encoding="utf-8")
            read_summary(arrived)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadParcel(f"it is no finished run: {error}") from None
        if found != scenario:
            raise BadParcel("it is the run of another scenario")
        claimed = RunFolder(folder, force=True)
        try:
            # The first makes the folder that of a run, and the last a finished one.
            order = {ENVIRONMENT: 0, SUMMARY: 2}
            for entry in sorted(arrived.iterdir(), key=lambda entry: order.get(entry.name, 1)):
                entry.replace(claimed.path / entry.name)
        finally:
            claimed.release()


def _extract(parcel: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(parcel)) as archive:
            entries = archive.infolist()
            if len(entries) > FILES_MAX or sum(each.file_size for each in entries) > UNPACKED_BYTES_MAX:
                raise BadParcel("it is too large")
            for entry in entries:
                path = folder / _inside(entry.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                # Never more than its header says, and that has been counted.
                with archive.open(entry) as source, path.open("xb") as file:
                    while piece := source.read(1 << 20):
                        file.write(piece)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadParcel(str(error) or type(error).__name__) from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "_lzma"):
            raise BadParcel(f"it is damaged: {error}") from None
        raise


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or any(part in ("..", *STAYS) for part in path.parts)
        or "\0" in name
        or "\\" in name
    ):
        raise BadParcel(f"it names a file {name[:100]!r}")
    return path
