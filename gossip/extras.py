"""Libraries that are not needed by every peer: imported when used, and one sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from gossip.errors import SettingError, UserError


def needed(module: str, use: str, *, extra: str, error: type[UserError] = SettingError) -> Any:
    """Return a module of an extra.

    Args:
        module: what is imported.
        use: the beginning of the sentence, e.g. ``--pdf is drawn with matplotlib``.
        extra: of ours, which brings it.
        error: whose fault it is that it is needed.

    Raises:
        UserError: `error`, where it is not installed, or broken.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise error(f"{use}, which is not installed: pip install 'gossip-node[{extra}]'") from missing
    except (ImportError, OSError) as broken:
        raise error(
            f"{use}, which is installed and cannot be imported ({told(broken)}): "
            f"pip install --force-reinstall 'gossip-node[{extra}]'"
        ) from broken


def told(error: BaseException) -> str:
    """Return the first line of what it says, or what it is."""
    return str(error).partition("\n")[0] or type(error).__name__
