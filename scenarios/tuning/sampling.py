"""Where the next trial is, by optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), unstored.

A suggestion is a function of the trials so far, the seed and the trial's number, and of nothing else: every call puts
the finished trials into a study of its own, in memory, and asks once. So a study that was interrupted goes on with the
trials that it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gossip import seeding
from gossip.errors import SettingError
from scenarios.tuning.space import Parameter, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RANDOM_TRIALS = 5
"""So many points are drawn at random before the estimator has enough to go by."""


def require_optuna() -> None:
    """Say so at once where optuna is not there.

    Raises:
        SettingError: one sentence that tells how to install it.
    """
    try:
        import optuna
    except ImportError:
        raise SettingError(
            "tune needs the package optuna, which is not installed; pip install 'gossip-node[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(
    space: Sequence[Parameter],
    finished: Sequence[tuple[dict[str, Value], float]],
    *,
    seed: int,
    method: str,
    number: int,
) -> dict[str, Value]:
    """Return where trial `number` of `method` is, after those `finished`, each with its score (more is better)."""
    from optuna import create_study
    from optuna.samplers import TPESampler
    from optuna.trial import create_trial

    # numpy's older generator, which optuna has, takes 32 bits.
    drawn = seeding.integer_seed(seed, "tune", peer=method, round=number) % 2**32
    study = create_study(direction="maximize", sampler=TPESampler(seed=drawn, n_startup_trials=RANDOM_TRIALS))
    distributions = {parameter.key: _distribution(parameter) for parameter in space}
    for params, score in finished:
        study.add_trial(create_trial(params=dict(params), distributions=distributions, value=score))
    asked = study.ask(distributions).params
    return {parameter.key: parameter.rounded(asked[parameter.key]) for parameter in space}


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    bounds: dict[str, Any] = {"low": parameter.low, "high": parameter.high}
    if parameter.whole:
        return IntDistribution(**{key: int(value) for key, value in bounds.items()}, log=parameter.log)
    return FloatDistribution(**bounds, log=parameter.log)
