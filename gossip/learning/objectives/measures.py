"""scikit-learn's measures of a finished model: what `gossip-node evaluate` tells, and no round needs."""

from __future__ import annotations

from typing import Any

from gossip.extras import needed


def measures() -> Any:
    """Return `sklearn.metrics`.

    Raises:
        SettingError: it is not installed.
    """
    return needed("sklearn.metrics", "F1, AUC and confusion are computed with scikit-learn", extra="scores")
