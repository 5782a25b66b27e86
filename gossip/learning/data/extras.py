"""Libraries that only some sources need: imported when used, and one sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from gossip.errors import DataError

INSTALL = "pip install 'gossip-node[data]'"


def arrow(source: object) -> Any:
    """Return pyarrow, with what reads files.

    Raises:
        DataError: it is not installed.
    """
    package = _needed("pyarrow", "pyarrow", source)
    for part in ("compute", "csv", "ipc", "parquet"):
        _needed(f"pyarrow.{part}", "pyarrow", source)
    return package


def pillow(source: object) -> Any:
    """Return Pillow's Image.

    Raises:
        DataError: it is not installed.
    """
    _needed("PIL.ImageOps", "Pillow", source)
    return _needed("PIL.Image", "Pillow", source)


def _needed(module: str, package: str, source: object) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise DataError(f"{source} is read with {package}, which is not installed: {INSTALL}") from missing
