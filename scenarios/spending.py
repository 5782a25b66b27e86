"""What a scenario's peers will spend of their samples' privacy, said before they begin."""

from __future__ import annotations

from collections.abc import Iterator

from gossip.learning.private import budgets_of
from gossip.learning.task import Task
from scenarios.scenario import ScenarioSettings


def planned(scenario: ScenarioSettings, task: Task) -> Iterator[str]:
    """Yield what the peer who spends most will have spent at the end, in a sentence; nothing without `[privacy]`."""
    budgets = budgets_of(task, [len(shard) for shard in task.partition(scenario.scenario.peers)])
    if budgets:
        rounds = scenario.stop.rounds
        _, first = max((budget.planned(rounds)[0], -place) for place, budget in enumerate(budgets))
        name = scenario.peer_names[-first]
        yield f"privacy: no peer spends more than {name}: {budgets[-first].told(rounds)}"
