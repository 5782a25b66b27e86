"""One class for each kind of attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gossip.errors import ProtocolMisuse, SettingError
from gossip.learning.task import Shard
from scenarios.attacks import class_settings, data, formulas, settings
from scenarios.attacks.base import Attack, Knowledge, Row, S, Scene


class SignFlip(Attack[settings.SignFlip]):
    """-scale · x, of the own model or of the honest mean."""

    def craft(self, known: Knowledge) -> Tensor:
        """Return the opposite."""
        model = known.own if known.honest is None or self.settings.of == "own" else known.honest.mean(0)
        return -self.settings.scale * model


class Gaussian(Attack[settings.Gaussian]):
    """N(0, std² I)."""

    def craft(self, known: Knowledge) -> Tensor:
        """Return noise."""
        noise = known.rng.standard_normal(len(known.own), dtype=np.float32)
        return torch.from_numpy(noise).to(known.own.device) * self.settings.std


class _OneValue(Attack[Any]):
    value: ClassVar[float]

    def craft(self, known: Knowledge) -> Tensor:
        """Return the own model with one value replaced, drawn anew each time."""
        crafted = known.own.clone()
        crafted[int(known.rng.integers(len(crafted)))] = self.value
        return crafted


class NotANumber(_OneValue):
    """One NaN."""

    value = float("nan")


class Infinite(_OneValue):
    """One infinity."""

    value = float("inf")


class HugeNorm(Attack[settings.HugeNorm]):
    """scale · x."""

    def craft(self, known: Knowledge) -> Tensor:
        """Return the own model, enlarged, as far as float32 goes."""
        largest = torch.finfo(known.own.dtype).max
        return (known.own.double() * self.settings.scale).clamp(-largest, largest).to(known.own.dtype)


class LabelFlip(Attack[class_settings.LabelFlip]):
    """Honest but for its labels."""

    def poison(self, shard: Shard, rng: np.random.Generator) -> Shard:
        """Return the samples with wrong labels."""
        return Shard(shard.x, data.flipped(shard.y, self.scene.classes, self.settings.flip))


class Replay(Attack[settings.Replay]):
    """What it sent `age` rounds ago."""

    replays = True

    def old(self, round: int) -> int | None:
        """Return the round to repeat; the first ones have nothing before them."""
        return round - self.settings.age if round >= self.settings.age else None


class Sybil(Attack[settings.Sybil]):
    """All send the first one's model."""

    def poison(self, shard: Shard, rng: np.random.Generator) -> Shard:
        """Return the samples with mirrored labels."""
        return Shard(shard.x, data.flipped(shard.y, self.scene.classes, "mirror"))

    def craft(self, known: Knowledge) -> Tensor:
        """Return a copy, with jitter."""
        model = known.own if known.leader is None else known.leader
        if not self.settings.jitter:
            return model
        noise = torch.from_numpy(known.rng.standard_normal(len(model), dtype=np.float32)).to(model.device)
        return model + self.settings.jitter * noise


class _OnHonest(Attack[S]):
    """Made of the honest peers' models, and the same from all attackers."""

    together = True

    def craft(self, known: Knowledge) -> Tensor:
        """Return the crafted model; honest where no honest model is known."""
        if known.honest is None or not len(known.honest):
            return known.own
        return self.from_honest(known.honest, known)

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Return the crafted model [L] from (h, L)."""
        raise NotImplementedError

    def honest_before(self, known: Knowledge) -> Tensor:
        """Return the mean of what the honest peers trained from [L], the initial model where nobody knows."""
        if known.before is not None:
            return known.before.mean(0)
        return self.scene.task.initial()[: len(known.own)].to(known.own)


class Alie(_OnHonest[settings.Alie]):
    """μ - z·σ."""

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.alie`."""
        z = self.settings.z
        if z is None:
            z = formulas.alie_z(self.scene.peers, len(self.scene.attackers))
        return formulas.alie(honest, z)


class Ipm(_OnHonest[settings.Ipm]):
    """-ε·μ."""

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.ipm`."""
        return formulas.ipm(honest, self.settings.epsilon)


class _Optimal(_OnHonest[S]):
    """Searches for the parameter with which the deployed rule is led farthest from the honest mean."""

    def formula(self, honest: Tensor, parameter: float) -> Tensor:
        """Return the crafted model for a parameter."""
        raise NotImplementedError

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Try the rule at the first honest peer that hears an attacker."""
        mean = honest.mean(0)

        def damage(parameter: float) -> float:
            return float((self._merged(known, self.formula(honest, parameter)) - mean).double().norm())

        evaluations: int = self.settings.evaluations  # type: ignore[attr-defined]
        return self.formula(honest, formulas.worst_parameter(damage, evaluations=evaluations))

    def _merged(self, known: Knowledge, crafted: Tensor) -> Tensor:
        scene = self.scene
        assert scene.rule is not None
        attackers = frozenset(scene.attackers)
        victim, row = self._victim(known)
        received = [
            (peer, crafted if peer in attackers else known.of(peer), weight)
            for peer, weight in sorted(row.items())
            if peer in attackers or peer in known.places
        ]
        own_weight = 1.0 - sum(weight for *_, weight in received)
        return scene.rule(victim, known.of(victim), max(0.0, own_weight), received, known.round)

    def _victim(self, known: Knowledge) -> tuple[int, Row]:
        """Return whose merge is tried, and its row; where nobody has neighbours, everybody hears all."""
        scene, first = self.scene, known.places[0]
        if scene.row is None:
            others = [peer for peer in (*known.places, *scene.attackers) if peer != first]
            return first, dict.fromkeys(others, 1 / (len(others) + 1))
        attackers = frozenset(scene.attackers)
        for peer in known.places:
            row = scene.row(peer, known.round)
            # With a victim that hears no attacker, all parameters would be equally good.
            if not attackers.isdisjoint(row):
                return peer, row
        return first, scene.row(first, known.round)


class OptimalAlie(_Optimal[settings.OptimalAlie]):
    """μ - z·σ with the worst z."""

    def formula(self, honest: Tensor, parameter: float) -> Tensor:
        """Apply `formulas.alie`."""
        return formulas.alie(honest, parameter)


class OptimalIpm(_Optimal[settings.OptimalIpm]):
    """-ε·μ with the worst ε."""

    def formula(self, honest: Tensor, parameter: float) -> Tensor:
        """Apply `formulas.ipm`."""
        return formulas.ipm(honest, parameter)


class MinMax(_OnHonest[settings.MinMax]):
    """As far as the diameter of the honest models allows."""

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.min_max`."""
        return formulas.min_max(honest, self.settings.direction)


class MinSum(_OnHonest[settings.MinSum]):
    """As far as the sum of squared distances allows."""

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.min_sum`."""
        return formulas.min_sum(honest, self.settings.direction)


class Mimic(_OnHonest[settings.Mimic]):
    """One honest model, many times."""

    names_peers = True

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Return the target's model."""
        return known.of(self.scene.honest[self.settings.target])


class FangKrum(_OnHonest[settings.FangKrum]):
    """As far against the honest peers' learning as Krum still chooses."""

    looks_back = True

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.fang_krum`."""
        about = honest.mean(0) if self.settings.about == "mean" else None
        return formulas.fang_krum(honest, self.honest_before(known), len(self.scene.attackers), about=about)


class FangTrimmedMean(_OnHonest[settings.FangTrimmedMean]):
    """Just beyond the honest values, on the side that learning moves away from."""

    together = False
    looks_back = True

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.fang_trimmed_mean`."""
        return formulas.fang_trimmed_mean(honest, self.honest_before(known), self.settings.b, known.rng)


class Dissensus(_OnHonest[settings.Dissensus]):
    """Away from the neighbours."""

    per_victim = True
    names_peers = True

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.dissensus` to the victim's neighbourhood."""
        victim = known.victim
        assert victim is not None
        if self.scene.row is None:
            row: Row = dict.fromkeys(range(self.scene.peers), 1 / self.scene.peers)
        else:
            row = self.scene.row(victim, known.round)
        near = [peer for peer in known.places if peer in row and peer != victim]
        attackers = frozenset(self.scene.attackers)
        against = sum(weight for peer, weight in row.items() if peer in attackers)
        if not near or not against or victim not in known.places:
            return known.own
        weights = torch.tensor([row[peer] for peer in near], dtype=honest.dtype, device=honest.device)
        models = torch.stack([known.of(peer) for peer in near])
        return formulas.dissensus(known.of(victim), models, weights, against, epsilon=self.settings.epsilon)


class Spectral(_OnHonest[settings.Spectral]):
    """Along the Fiedler vector of the honest graph."""

    per_victim = True
    names_peers = True

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Apply `formulas.spectral` to the honest peers' graph of the round."""
        row = self.scene.row
        assert row is not None
        if known.victim not in known.places:
            return known.own
        edges = [(i, j) for i in known.places for j in row(i, known.round) if i < j and j in known.places]
        fiedler = formulas.fiedler_vector(edges, known.places).to(honest.device)
        place = known.places.index(known.victim)
        return formulas.spectral(honest, place, fiedler, scale=self.settings.scale)


class ForeignSwap(_OnHonest[class_settings.ForeignSwap]):
    """Permuted columns where nobody looks."""

    per_victim = True

    def __init__(self, settings: class_settings.ForeignSwap, scene: Scene) -> None:
        """Find the output layer.

        Raises:
            SettingError: the model has none with one row for each class.
        """
        super().__init__(settings, scene)
        try:
            self._rows = formulas.class_rows(scene.task.space, scene.classes)
        except ProtocolMisuse as error:
            raise SettingError(
                f"[attack] kind = 'foreign-swap' permutes the columns of classes: {error}"
            ) from None

    def from_honest(self, honest: Tensor, known: Knowledge) -> Tensor:
        """Return the honest mean with the columns of foreign, or of given, classes permuted."""
        if self.settings.broadcast:
            swapped = list(self.settings.classes)
        else:
            assert known.victim is not None
            swapped = sorted(set(range(self.scene.classes)) - self.scene.familiar(known.victim))
        return formulas.permuted_columns(honest.mean(0), self._rows, swapped)


class Backdoor(Attack[class_settings.Backdoor]):
    """A trigger, and how often it works."""

    def poison(self, shard: Shard, rng: np.random.Generator) -> Shard:
        """Return samples of which some carry the trigger."""
        chosen = self.settings
        return data.backdoored(shard, target=chosen.target, share=chosen.share, size=chosen.size, rng=rng)

    def craft(self, known: Knowledge) -> Tensor:
        """Return the boosted update."""
        if known.base is None or self.settings.boost == 1:
            return known.own
        return known.base + self.settings.boost * (known.own - known.base)

    def success(self, evaluate: Callable[[Tensor, Tensor], float]) -> float:
        """Return the share of triggered test samples of other classes that are taken for the target."""
        dataset = self.scene.task.dataset
        chosen = self.settings
        x, y = data.triggered_test(dataset.x_test[:], dataset.y_test, target=chosen.target, size=chosen.size)
        return evaluate(self.scene.task.features(x), y)


class Mixed(Attack[settings.Mixed]):
    """Each attacker does something else."""

    def __init__(self, settings: settings.Mixed, scene: Scene) -> None:
        super().__init__(settings, scene)
        self._parts: dict[int, Attack[Any]] = {}
        for turn, peer in enumerate(scene.attackers):
            part = settings.part(turn)
            self._parts[peer] = part.load()(part, scene)

    def of(self, peer: int) -> Attack[Any]:
        """Return the kind that was dealt to the attacker."""
        return self._parts[peer]

    def craft(self, known: Knowledge) -> Tensor:
        """Leave it to the attacker's kind."""
        return self.of(known.attacker).craft(known)
