"""Which keys of `[data]` belong to which kind of source: those that would do nothing are refused."""

from __future__ import annotations

from collections.abc import Collection

from gossip.errors import DataError
from gossip.learning.settings import DataSettings
from gossip.learning.sources import IMAGE_KEYS, TABLE_KEYS

BELONGS = {
    "arguments": "a python: source",
    "test": "a table or a folder of images",
    "mapped": "a .npz, a folder of .npy or of images, or a python: source",
    "test_fraction": "a source without test samples of its own",
    **dict.fromkeys(TABLE_KEYS, "a table (.csv, .tsv, .parquet)"),
    **dict.fromkeys(IMAGE_KEYS, "images"),
}


def refuse_others(settings: DataSettings, *taken: str) -> None:
    """Refuse keys that the source does not take.

    Raises:
        DataError: such a key is set.
    """
    for key, owner in BELONGS.items():
        if key not in taken and settings.is_set(key):
            verb = "belong" if key in PLURAL else "belongs"
            raise DataError(f"[data] {key} {verb} to {owner}, not to '{settings.source}'")


PLURAL: Collection[str] = ("arguments", "columns", "categories", "statistics")


def refuse_test_keys(settings: DataSettings) -> None:
    """Refuse what says which samples to test on, where the source has such samples.

    Raises:
        DataError: `test` or `test_fraction` is set.
    """
    for key in ("test", "test_fraction"):
        if settings.is_set(key):
            beside = "" if key == "test" else "; own_test keeps a share of own training samples beside them"
            raise DataError(
                f"[data] {key}: '{settings.source}' has test samples of its own; take {key} away{beside}"
            )
