"""What every attack is: what it trains on, what it sends, and what it may know.

An attacker runs the same protocol as everybody, and what it sends is changed on the way out. So a kind is two pure
functions, of its samples and of what it knows in a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

from gossip import plugins, seeding
from gossip.learning.data.mapped import Mapped, part
from gossip.learning.task import Shard, Task
from gossip.protocols.base import PeerId
from gossip.returned import check_tensor
from scenarios.attacks.settings import AttackSettings
from scenarios.summary import spread

S = TypeVar("S", bound=AttackSettings)

Row = Mapping[int, float]
"""Neighbour's position -> its weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What attackers know of the run from the beginning."""

    task: Task
    peers: int
    attackers: tuple[int, ...]
    row: Callable[[int, int], Row] | None = None
    """(peer, round) -> its row of the mixing matrix without W_ii; None where nobody has neighbours."""
    rule: Callable[[int, Tensor, float, Sequence[tuple[int, Tensor, float]], int], Tensor] | None = None
    """The deployed rule, to be tried: (victim, own [L], own weight, [(peer, model [L], weight)], round) -> [L]."""
    familiar: Callable[[int], frozenset[int]] = lambda _: frozenset()
    """Peer -> the classes that it has samples of."""

    @property
    def honest(self) -> tuple[int, ...]:
        """Who does not attack."""
        attackers = frozenset(self.attackers)
        return tuple(peer for peer in range(self.peers) if peer not in attackers)

    @property
    def classes(self) -> int:
        """C."""
        return self.task.dataset.classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What an attacker knows when it sends."""

    attacker: int
    round: int
    own: Tensor
    """The model [L] that it would send if it were honest."""
    rng: np.random.Generator
    base: Tensor | None = None
    """What it trained `own` from [L]."""
    leader: Tensor | None = None
    """What the first attacker would send if it were honest, or would have sent last [L]."""
    honest: Tensor | None = None
    """The honest peers' models (h, L) of this round and step, or their latest; omniscient attackers only."""
    places: tuple[int, ...] = ()
    """Whose they are."""
    before: Tensor | None = None
    """What the honest peers trained theirs from (k, L); for attacks that look back only."""
    victim: int | None = None
    """Whom it sends to, where that matters."""

    def of(self, peer: int) -> Tensor:
        """Return an honest peer's model, or the own one where it is not known."""
        if self.honest is None or peer not in self.places:
            return self.own
        return self.honest[self.places.index(peer)]


class Attack(Generic[S]):
    """Sends what an honest peer would send."""

    per_victim: ClassVar[bool] = False
    """Each victim gets another message."""
    names_peers: ClassVar[bool] = False
    """It needs the models of certain honest peers: their latest, where they send none in a step."""
    together: ClassVar[bool] = False
    """All attackers send the same."""
    looks_back: ClassVar[bool] = False
    """It needs to know what honest peers trained from, too."""
    replays: ClassVar[bool] = False
    """It sends its own old messages; see `old`."""

    def __init__(self, settings: S, scene: Scene) -> None:
        self.settings = settings
        self.scene = scene

    @property
    def omniscient(self) -> bool:
        """Whether it needs to see the honest models of a round."""
        return self.settings.sees_all

    def of(self, peer: int) -> Attack[Any]:
        """Return what the attacker at position `peer` does."""
        return self

    def poison(self, shard: Shard, rng: np.random.Generator) -> Shard:
        """Return what the attacker learns from."""
        return shard

    def craft(self, known: Knowledge) -> Tensor:
        """Return the model [L] that it sends."""
        return known.own

    def old(self, round: int) -> int | None:
        """Return the round whose message it sends again in `round`, if it does so."""
        return None

    def success(self, evaluate: Callable[[Tensor, Tensor], float]) -> float | None:
        """Return how far a model obeys, where that is the aim. ``evaluate(x, y) -> accuracy`` of the model."""
        return None


def attack_of(settings: AttackSettings, scene: Scene) -> Attack[Any]:
    """Return what `[attack]` names.

    Raises:
        SettingError: a user's attack cannot be made.
    """
    made = settings.load()
    with plugins.blamed(made, "[attack]"):
        attack: Attack[Any] = made(settings, scene)
    return attack


def crafted(attack: Attack[Any], known: Knowledge) -> Tensor:
    """Return the model [L] that the attacker sends.

    Raises:
        SettingError: a user's attack fails, or returns something else.
    """
    with plugins.blamed(attack, f"[attack] in round {known.round}:"):
        sent = attack.craft(known)
        check_tensor(sent, tuple(known.own.shape), "craft returns for a model")
    return sent


def poisoned_shard(attack: Attack[Any], peer: int, *, name: PeerId, seed: int) -> Shard:
    """Return what the attacker at position `peer` learns from, as the network takes it.

    Raises:
        SettingError: a user's attack fails, or returns something else.
    """
    attack = attack.of(peer)
    scene, chosen = attack.scene, attack.settings
    task = scene.task
    rng = seeding.generator(seed, "poison", peer=name)
    if chosen.data == "own":
        indices = task.partition(scene.peers)[peer]
    else:
        indices = task.training
        if chosen.samples_per_class is not None:
            labels = task.dataset.y_train.numpy()[indices]
            drawn = [
                rng.permutation(indices[labels == label])[: chosen.samples_per_class]
                for label in np.unique(labels)
            ]
            indices = np.sort(np.concatenate(drawn))
    x, y = part(task.dataset.x_train, indices), task.dataset.y_train[indices]
    # Behind an extractor too a trigger is in the image, not in its features.
    with plugins.blamed(attack, "[attack]"):
        poisoned = attack.poison(Shard(x, y), rng)
        _check_poisoned(poisoned, Shard(x, y))
    return Shard(task.features(poisoned.x), poisoned.y)


def _kind(samples: Any) -> str:
    if not isinstance(samples, (Tensor, Mapped)):
        return type(samples).__name__
    return f"({', '.join(map(str, ('n', *samples.shape[1:])))}) {samples.dtype}"


def try_out(settings: AttackSettings, scene: Scene, *, name: PeerId, seed: int) -> None:
    """Try a user's attack, as its first attacker `name` would make it, before any process begins.

    Raises:
        SettingError: it fails, or returns something else than it should.
    """
    attack, peer = attack_of(settings, scene), scene.attackers[0]
    if plugins.is_ours(attack.of(peer)):
        return
    poisoned_shard(attack, peer, name=name, seed=seed)
    own = scene.task.initial()[: scene.task.space.learned_size]
    rng = seeding.generator(seed, "attack 0", peer=name, round=settings.from_round)
    crafted(
        attack.of(peer),
        Knowledge(attacker=peer, round=settings.from_round, own=own, base=own.clone(), rng=rng),
    )
    try_success(attack)


def try_success(attack: Attack[Any]) -> None:
    """Ask a user's attack how far the initial model obeys: what fails there would else fail when all is learnt.

    Raises:
        SettingError: it fails, or returns no number.
    """
    if not plugins.is_ours(attack):
        success_rate(attack, [attack.scene.task.initial()])


def _check_poisoned(found: Any, shard: Shard) -> None:
    """Raise `Wrong` unless `found` are samples such as those of `shard`."""
    if not isinstance(found, Shard):
        raise plugins.Wrong(f"poison returns {type(found).__name__}; it must be a Shard(x, y)")
    for name, samples, given in (("x", found.x, shard.x), ("y", found.y, shard.y)):
        kind, wanted = _kind(samples), _kind(given)
        if kind != wanted:
            raise plugins.Wrong(f"poison returns {name} {kind}; it must be {wanted}")
    if not 0 < len(found.x) == len(found.y):
        raise plugins.Wrong(
            f"poison returns {len(found.x)} samples with {len(found.y)} targets; it must be one each, and one at least"
        )


def success_rate(attack: Attack[Any], models: Iterable[Tensor]) -> dict[str, Any] | None:
    """Return {"success_rate": {mean, std, min, max}} over models [P], where the attack has an aim of its own."""
    task = attack.scene.task
    rates = []
    for model in models:
        with plugins.blamed(attack, "[attack] success:"):
            rate = attack.success(lambda x, y, model=model: task.evaluate(model, x, y).score)  # type: ignore[misc]
            rate = None if rate is None else float(rate)
        if rate is None:
            return None
        rates.append(rate)
    return {"success_rate": spread(rates)}
