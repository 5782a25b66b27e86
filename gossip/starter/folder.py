"""The folder that a newcomer begins with: copies of the files in templates/. Free of everything heavy."""

from __future__ import annotations

from pathlib import Path

from gossip.errors import SettingError

TEMPLATES = Path(__file__).parent / "templates"


def write(folder: Path) -> list[str]:
    """Write the templates into `folder`, which is made; return the names of the files.

    Raises:
        SettingError: it holds something already, is no folder, or cannot be written.
    """
    files = sorted(path for path in TEMPLATES.iterdir() if path.is_file())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = next(iter(sorted(folder.iterdir())), None)
        if found is not None:
            raise SettingError(
                f"{folder}: is not empty, it holds {found.name}; name a folder that is new or empty"
            )
        for path in files:
            (folder / path.name).write_bytes(path.read_bytes())
    except FileExistsError:
        raise SettingError(f"{folder}: is no folder; name one that is new or empty") from None
    except OSError as error:
        raise SettingError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return [path.name for path in files]
