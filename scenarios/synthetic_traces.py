"""`gossip-scenario trace`: a made-up trace of machines that differ.

Bandwidths and seconds per sample are log-normal, as those that are measured of phones and home connections look: the
logarithm of each is normal around that of the median, with the standard deviation that is asked for. Sessions and the
times between them are exponential; who is there at the start is drawn with the share of time that it is there at all.
Each column of each peer has its own draws, so that a longer trace begins with a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossip import seeding
from gossip.errors import SettingError
from gossip.storage.atomic import write_atomically
from scenarios.scenario import PEERS_MAX

SPREAD_MAX = 5.0
"""Of a logarithm: with more, the fastest machine of a thousand is ten million times as fast as the median one."""

SESSIONS_MAX = 10_000
"""In one peer's line; more is a mistake in the unit."""


MADE_BY = "# gossip-scenario trace"
"""How the first line of a made-up trace begins."""


def make(
    path: Path,
    *,
    peers: int,
    seed: int,
    up: float,
    down: float,
    bandwidth_spread: float,
    seconds_per_sample: float,
    speed_spread: float,
    online_s: float | None,
    offline_s: float | None,
    until_s: float,
) -> dict[str, Any]:
    """Write a trace to `path`, with the command that made it, and return what there is to tell of it.

    Args:
        path: ends in .csv.
        peers: how many lines.
        seed: of all draws.
        up: median, Mbit/s.
        down: median, Mbit/s.
        bandwidth_spread: standard deviation of the logarithms of both.
        seconds_per_sample: median.
        speed_spread: standard deviation of its logarithm.
        online_s: mean length of a session; None: everybody is always there.
        offline_s: mean time between sessions.
        until_s: who is there then stays.

    Raises:
        SettingError: with one sentence.
    """
    _check(path, peers, online_s, offline_s, until_s)
    _check_medians({"--up": up, "--down": down, "--seconds-per-sample": seconds_per_sample})
    _check_spreads({"--bandwidth-spread": bandwidth_spread, "--speed-spread": speed_spread})
    columns = {
        "up": [_log_normal(seed, "up", peer, up, bandwidth_spread) for peer in range(peers)],
        "down": [_log_normal(seed, "down", peer, down, bandwidth_spread) for peer in range(peers)],
        "seconds_per_sample": [
            _log_normal(seed, "speed", peer, seconds_per_sample, speed_spread) for peer in range(peers)
        ],
    }
    if online_s is not None and offline_s is not None:
        columns["online"] = [_sessions(seed, peer, online_s, offline_s, until_s) for peer in range(peers)]
    said = {
        "peers": peers,
        "seed": seed,
        "up": up,
        "down": down,
        "bandwidth-spread": bandwidth_spread,
        "seconds-per-sample": seconds_per_sample,
        "speed-spread": speed_spread,
    }
    if online_s is not None and offline_s is not None:
        said |= {"online-s": online_s, "offline-s": offline_s, "until-s": until_s}
    _write(path, columns, said)
    return {"path": str(path), "peers": peers, "columns": list(columns)}


def _write(path: Path, columns: Mapping[str, Sequence[str]], said: Mapping[str, float]) -> None:
    """Write the columns under the command that makes them again."""
    options = (f"--{key} {value:.12g}" for key, value in said.items())
    made_by = " ".join([MADE_BY, path.name, *options])
    rows = (",".join(cells) for cells in zip(*columns.values(), strict=True))
    lines = [made_by, ",".join(columns), *rows]
    try:
        if path.exists() and not path.read_bytes().startswith(MADE_BY.encode()):
            raise SettingError(f"{path}: is there already, and no trace that was made so; give another name")
        write_atomically(path, ("\n".join(lines) + "\n").encode(), durable=False)
    except OSError as failure:
        raise SettingError(f"{path}: cannot be written: {failure.strerror or failure}") from None


def _check(path: Path, peers: int, online_s: float | None, offline_s: float | None, until_s: float) -> None:
    if path.suffix != ".csv":
        raise SettingError(f"{path}: the name of a trace must end in .csv")
    if not 1 <= peers <= PEERS_MAX:
        raise SettingError(f"--peers {peers}: must be between 1 and {PEERS_MAX}")
    if (online_s is None) != (offline_s is None):
        raise SettingError(
            "--online-s and --offline-s belong together: how long sessions last, and what is between them"
        )
    for option, value in (("--online-s", online_s), ("--offline-s", offline_s), ("--until-s", until_s)):
        if value is not None and not 0 < value < math.inf:
            raise SettingError(f"{option} {value:g}: must be above 0")
    if (
        online_s is not None
        and offline_s is not None
        and until_s / (online_s + offline_s) > SESSIONS_MAX / 10
    ):
        raise SettingError(
            f"--until-s {until_s:g}: that is some {until_s / (online_s + offline_s):.0f} sessions of a peer; at most "
            f"{SESSIONS_MAX // 10} are made"
        )


def _check_medians(medians: Mapping[str, float]) -> None:
    for option, value in medians.items():
        if not 0 < value < math.inf:
            raise SettingError(f"{option} {value:g}: must be above 0")


def _check_spreads(spreads: Mapping[str, float]) -> None:
    for option, value in spreads.items():
        if not 0 <= value <= SPREAD_MAX:
            raise SettingError(f"{option} {value:g}: must be between 0 and {SPREAD_MAX:g}")


def _log_normal(seed: int, purpose: str, peer: int, median: float, spread: float) -> str:
    draw = float(seeding.generator(seed, f"trace {purpose}", peer=str(peer)).standard_normal())
    # Four digits: the rest is no property of a machine.
    return f"{median * math.exp(spread * draw):.4g}"


def _sessions(seed: int, peer: int, online_s: float, offline_s: float, until_s: float) -> str:
    """Return the periods of one peer in whole seconds, which is what they are true to."""
    rng = seeding.generator(seed, "trace online", peer=str(peer))
    there = bool(rng.random() < online_s / (online_s + offline_s))
    periods: list[str] = []
    now_s = 0
    while now_s < until_s:
        end_s = now_s + _whole(rng, online_s if there else offline_s)
        if there:
            periods.append(f"{now_s}-{end_s}" if end_s < until_s else f"{now_s}-")
        now_s, there = end_s, not there
    if not periods:
        periods.append(f"{now_s}-")
    return "" if periods == ["0-"] else ";".join(periods)


def _whole(rng: np.random.Generator, mean_s: float) -> int:
    return max(1, round(float(rng.exponential(mean_s))))
