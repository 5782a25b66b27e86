"""What must be the same wherever a run is done, so that it is the same run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy")
"""Sums, and draws."""

OURS = ("gossip", "topologies", "scenarios")


@cache
def versions() -> Mapping[str, str]:
    """Return name -> version of Python, of the packages that decide on a run's numbers, and of our own sources."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        # A build for another accelerator is the same release.
        **{name: _version(name).partition("+")[0] for name in PACKAGES},
        "gossip-node": f"{_version('gossip-node')} (sources {_sources()})",
    }


def difference(theirs: Mapping[str, object]) -> str | None:
    """Return in words what there is other than `theirs`; None: nothing."""
    ours = versions()
    other = [name for name in ours if theirs.get(name) != ours[name]]
    return ", ".join(f"{name} {ours[name]} instead of {theirs.get(name)}" for name in other) or None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _sources() -> str:
    root = Path(__file__).parents[2]
    files = sorted(path for name in OURS for path in (root / name).rglob("*.py"))
    digest = blake2b(digest_size=6)
    for path in files:
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
