"""Which outer steps let models agree, and with what of other sections they go together: said before anything runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.learning.updates.settings import QuasiGlobalSettings
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.push.settings import WALKS, PushSettings
from topologies import Topology

FACTOR_MAX = 0.98
"""By which the distance between models may shrink in a round of mixing and outer steps alone; 1 and more: it grows."""

RATES = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4)

FACTORS: Mapping[str, Mapping[float, Sequence[float]]] = {
    "heavy-ball": {
        0.0: (0.95, 0.85, 0.77, 0.73, 0.70, 0.76),
        0.3: (0.92, 0.78, 0.74, 0.74, 0.78, 0.85),
        0.5: (0.89, 0.78, 0.80, 0.82, 0.88, 0.96),
        0.7: (0.86, 0.88, 0.91, 0.94, 0.99, 1.06),
        0.9: (0.96, 0.98, 1.01, 1.04, 1.09, 1.16),
    },
    "nesterov": {
        0.0: (0.95, 0.85, 0.77, 0.73, 0.70),
        0.5: (0.89, 0.74, 0.71, 0.73, 0.82),
        0.7: (0.84, 0.81, 0.81, 0.83, 0.93),
        0.9: (0.93, 0.91, 0.90, 0.94, 1.03),
    },
}
"""μ -> that factor for each of `RATES`, measured where peers meet in random pairs, which of all graphs bears least."""


def factor(kind: str, *, rate: float, momentum: float) -> float:
    """Return the factor, between the values of the table by bilinear interpolation, beyond its end by the last two.

    Smaller rates than the table's are no less stable, only slow.
    """
    rows = FACTORS["nesterov" if kind == "nesterov" else "heavy-ball"]
    momenta = list(rows)
    along = [_between(RATES, rows[mu], max(rate, RATES[0])) for mu in momenta]
    return _between(momenta, along, momentum)


def _between(places: Sequence[float], values: Sequence[float], at: float) -> float:
    places = places[: len(values)]
    right = min(max(1, bisect_right(places, at)), len(places) - 1)
    share = (at - places[right - 1]) / (places[right] - places[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])


def check_outer(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where models would not agree, or momenta multiply; note what makes outer steps rare."""
    outer, protocol = task.outer, task.protocol
    if outer.nothing:
        return
    where = task.where("outer")
    found = factor(outer.kind, rate=outer.alpha, momentum=outer.mu)
    if round(found, 9) >= FACTOR_MAX:
        raise SettingError(
            f"{where} rate = {outer.alpha:g} with momentum = {outer.mu:g} drives models apart: their distance would be "
            f"{found:.2f} times as large after a round of {outer.kind} steps between pairs, and {FACTOR_MAX:g} is too "
            f"much; nearest that holds: {_nearest(outer.kind, outer.alpha, outer.mu)}"
        )
    if outer.mu and isinstance(task.local.optimizer, QuasiGlobalSettings):
        raise SettingError(
            f"{where} momentum = {outer.mu:g} and [local] optimizer = 'quasi-global' are both momenta of what mixing "
            "does, and multiply; valid: momentum = 0, or another optimizer"
        )
    if isinstance(protocol, PushSettings) and protocol.variant in WALKS:
        raise SettingError(
            f"{where} kind = '{outer.kind}' means nothing with [protocol] variant = '{protocol.variant}', where the "
            "next update is of another model; valid: kind = 'none', or variant = 'merge-update'"
        )
    if isinstance(protocol, ModestSettings) and protocol.sample_size < topology.peers:
        task.note(
            f"[outer] kind = '{outer.kind}': a peer that did not train in the round before takes no outer step, and "
            f"with [protocol] sample_size = {protocol.sample_size} of {topology.peers} peers that is most of them"
        )


def _nearest(kind: str, rate: float, momentum: float) -> str:
    """Return the nearest rate and the nearest momentum that are stable with the other one, as a clause."""

    def largest(value: float, factor_of: Callable[[float], float]) -> float | None:
        hundredths = (hundredth / 100 for hundredth in range(int(100 * value + 1e-9), -1, -1))
        return next((each for each in hundredths if round(factor_of(each), 9) < FACTOR_MAX), None)

    slower = largest(momentum, lambda each: factor(kind, rate=rate, momentum=each))
    smaller = largest(rate, lambda each: factor(kind, rate=each, momentum=momentum))
    clauses = [] if slower is None else [f"momentum = {slower:g} with this rate"]
    if smaller:
        clauses.append(f"rate = {smaller:g} with this momentum")
    return ", or ".join(clauses)
