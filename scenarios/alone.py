"""The baseline of learning alone: what each peer reaches with its own data, without anybody else's models."""

from __future__ import annotations

from typing import Any

from gossip.config import EvaluateSettings
from gossip.protocols.settings import RoundsSettings
from scenarios.scenario import ScenarioSettings
from scenarios.sections import ScenarioStop
from scenarios.summary import spread


def alone_settings(scenario: ScenarioSettings) -> ScenarioSettings:
    """Return the same peers, data, model and local updates, in as many rounds without gossip, faults and attacks.

    Raises:
        SettingError: the local updates need neighbours.
    """
    return ScenarioSettings(
        algorithm="local",
        seed=scenario.seed,
        scenario=scenario.scenario.model_copy(update={"alone": False, "algorithm": "local"}),
        data=scenario.data,
        objective=scenario.objective,
        model=scenario.model,
        local=scenario.local,
        compute=scenario.compute,  # with a deadline it decides about the steps
        protocol=RoundsSettings(gossip_steps=0),
        stop=ScenarioStop(rounds=scenario.stop.rounds),
        evaluate=EvaluateSettings(every=scenario.stop.rounds),
        virtual=scenario.virtual,
    )


def measured_alone(scenario: ScenarioSettings, alone: ScenarioSettings) -> dict[str, Any]:
    """Return {mean, std, min, max, worst, rounds} of the honest peers' scores when everybody learns alone.

    The virtual engine does it, whatever engine the run had: without messages both come to the same.
    """
    import torch

    from scenarios.processes.averages import load_task
    from scenarios.progress import Quiet
    from scenarios.virtual.engine import VirtualRun

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        records = VirtualRun(alone, load_task(alone)).run(Quiet())
    finally:
        torch.set_num_threads(threads)
    honest = set(scenario.honest_names)
    scores = [peer.score for peer in records.peers if peer.peer in honest and peer.score is not None]
    return {**spread(scores), "worst": records.scored.worst(scores), "rounds": alone.stop.rounds}
