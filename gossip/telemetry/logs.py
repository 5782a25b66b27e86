"""Log lines that name the peer. Nothing secret is ever passed to a logger, and no raw bytes of strangers."""

from __future__ import annotations

import logging
import sys


def set_up_logging(peer: str, *, insecure: bool, level: int = logging.INFO) -> None:
    """Send the package's log to standard error, each line with time, peer and, if so, INSECURE."""
    mark = f"{peer} INSECURE" if insecure else peer
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s {mark.replace('%', '%%')} %(levelname)s %(message)s", "%H:%M:%S")
    )
    logger = logging.getLogger("gossip")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    # A log that cannot be written – a full disk, a reader that is gone – ends nothing, and has nobody to tell it to.
    logging.raiseExceptions = False
