"""`gossip-node` as its console script starts it, as a program of the fork server: see `run`."""

from __future__ import annotations

import json
import os
import sys

from gossip import cli


def run(argv: list[str]) -> int:
    """Do what an interpreter does with standard streams that are closed, execute a prelude, and be `gossip-node`.

    The first argument is a JSON object, ``{"closed": [DESCRIPTOR, …], "prelude": PYTHON}``; the others are the node's.
    """
    orders = json.loads(argv[0])
    for number in orders["closed"]:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    if 2 not in orders["closed"]:
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    exec(orders["prelude"], {})
    sys.argv[1:] = argv[1:]
    cli.main()
    return 1  # it has left
