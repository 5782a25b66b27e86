"""``python FILE ARGUMENT…`` as a program of the fork server."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def run(argv: list[str]) -> int:
    """Run the file `argv[0]` as the interpreter would, which finds what lies beside it."""
    sys.argv[:] = argv
    sys.path.insert(0, str(Path(argv[0]).resolve().parent))
    runpy.run_path(argv[0], run_name="__main__")
    return 0
