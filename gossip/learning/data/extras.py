"""Libraries that only some sources need: imported when used, and one sentence where they are missing."""

from __future__ import annotations

from typing import Any

from gossip.errors import DataError
from gossip.extras import needed


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
    return needed(module, f"{source} is read with {package}", extra="data", error=DataError)
