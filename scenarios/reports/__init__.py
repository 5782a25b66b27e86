"""What people see of runs: the page, its figures and tables, and the same few figures in a terminal."""

import contextlib
import os
import sys

BACKEND = "MPLBACKEND"

if BACKEND in os.environ and "matplotlib" not in sys.modules:
    # A notebook's own, for windows that we never open; matplotlib cannot be imported where it does not know the name.
    _wanted = os.environ.pop(BACKEND)
    try:
        import matplotlib as _matplotlib
    except ImportError:  # an extra; what draws says so
        _matplotlib = None  # type: ignore[assignment]
    finally:
        os.environ[BACKEND] = _wanted
    with contextlib.suppress(ValueError, AttributeError):
        _matplotlib.rcParams["backend"] = _wanted
