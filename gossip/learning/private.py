"""Local updates under `[privacy]`: whose samples a step takes is secret, and its gradient is shortened and noised.

What `gossip.privacy` says of one step, put together for one model and for a stack of them. All that comes after the
gradient — weight decay, momentum, AdamW's moments, outer steps, codecs, merges — sees the noised one only, and so says
no more of a sample than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from gossip.errors import SettingError
from gossip.learning import batches
from gossip.learning.batch_norm import batch_norms
from gossip.parameters import ParameterSpace, Role
from gossip.privacy import per_sample
from gossip.privacy.budget import Budget, rate_of
from gossip.privacy.entropy import OPERATING_SYSTEM, Entropy
from gossip.privacy.ledger import Ledger
from gossip.privacy.settings import PrivacySettings

if TYPE_CHECKING:
    from gossip.learning.local_training import Gradient, LocalTraining
    from gossip.learning.task import Task

AGREEMENT = 1e-3
"""Largest difference between the samples' sum by `vmap` and one by one, in terms of its largest entry."""

ByHand: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""(trained (n, T), x (n, b, …), y (n, b), counted (n, b), C) -> the sums (n, T) and losses (n, b) of `clipped`."""


class PrivateGradients:
    """What turns mini-batches into noised gradients.

    Args:
        training: of the network.
        settings: `[privacy]`.
    """

    def __init__(self, training: LocalTraining, settings: PrivacySettings) -> None:
        check(training.forward.space, training.forward.module)
        self._training = training
        self.settings = settings
        self.entropy_of: Callable[[str, int], Entropy] = lambda peer, round: OPERATING_SYSTEM
        """(peer, round) -> where its chance comes from; laws compare engines by putting another one here."""
        self._together: bool | None = None
        """Whether `vmap` makes of the network what it does one sample at a time; None: not tried yet."""

    def update(self, peer: str, round: int, samples: int) -> PrivateUpdate:
        """Return what one local update of one peer is done with."""
        return PrivateUpdate(self, self.entropy_of(peer, round), samples)

    def rate(self, samples: int) -> float:
        """Return q of a peer with so many samples."""
        return rate_of(samples, self._training.settings.batch_size)

    def noised(self, total: Tensor, expected: Tensor, entropies: Sequence[Entropy]) -> Tensor:
        """Return the gradients of sums (T,) or (n, T); `expected` () or (n,) is q · samples."""
        std = self.settings.noise * self.settings.clip
        return per_sample.noised(total, std, entropies) / expected[..., None]

    def sum_of(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shortened gradients' sum (T,) and the mean loss () of a mini-batch, which may be empty."""
        chunk = per_sample.chunk_of(len(trained), 1, micro_batch=self._training.settings.micro_batch)
        total, loss = torch.zeros_like(trained), torch.zeros((), device=trained.device)
        for x_part, y_part in (
            zip(torch.split(x, chunk), torch.split(y, chunk), strict=True) if len(y) else ()
        ):
            added, losses = self._part(trained, rest, x_part, y_part)
            total, loss = total + added, loss + losses.sum()
        return total, loss / max(1, len(y))

    def _part(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._together is None:
            self._together = self._tried(trained, rest, x[:2], y[:2])
        return (self._at_once if self._together else self._one_by_one)(trained, rest, x, y)

    def _at_once(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        everybody = torch.ones(len(y), dtype=torch.bool, device=y.device)
        return per_sample.clipped(
            self._loss_of,
            trained,
            rest,
            x,
            y,
            everybody,
            clip=self.settings.clip,
            draws=bool(self._training.draws),
        )

    def _one_by_one(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        def gradient_of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            gradient, loss, _ = self._training.gradient_of_batch(trained, rest, x, y)
            return gradient, loss

        return per_sample.clipped_one_by_one(gradient_of, x, y, clip=self.settings.clip)

    def _loss_of(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self._training.loss_and_rest(trained, rest, x, y)[0]

    def _tried(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> bool:
        """Return whether foreign code can be mapped over samples: what it draws or hooks into may get lost."""
        if not self._training.forward.users:
            return True
        if self._training.draws:
            return False  # what differs by chance cannot be compared
        alone, _ = self._one_by_one(trained, rest, x, y)
        try:
            together, _ = self._at_once(trained, rest, x, y)
        except (Exception, SystemExit):  # it branches on a value, calls .item(), and so on
            return False
        return bool((together - alone).abs().max() <= AGREEMENT * alone.abs().max())

    def stacked(
        self,
        entropies: Sequence[Entropy],
        expected: Tensor,
        counted: Tensor,
        *,
        by_hand: ByHand | None = None,
    ) -> Gradient:
        """Return the gradient of one step of a stack, to be asked for once.

        Args:
            entropies: of each model's peer.
            expected: (n,) q · samples.
            counted: (n, b), which samples of the mini-batches do not pad.
            by_hand: the sums of a network that has a faster way to them.
        """

        def gradient(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            sums = self._mapped if by_hand is None else _of_hand(by_hand)
            n, settings = len(trained), self._training.settings
            chunk = per_sample.chunk_of(trained.shape[1], n, micro_batch=settings.micro_batch)
            if by_hand is not None:
                chunk = x.shape[1]  # it holds no gradient of a single sample
            total, loss = torch.zeros_like(trained), torch.zeros(n, device=trained.device)
            for start in range(0, x.shape[1], chunk):
                part = slice(start, start + chunk)
                added, losses = sums(
                    trained, rest, x[:, part], y[:, part], counted[:, part], self.settings.clip
                )
                total, loss = total + added, loss + losses.sum(1)
            return (
                self.noised(total, expected, entropies),
                loss / counted.sum(1).clamp(min=1),
                rest,
            )

        return once(gradient)

    def _mapped(
        self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor, counted: Tensor, clip: float
    ) -> tuple[Tensor, Tensor]:
        def one(
            trained: Tensor, rest: Tensor, x: Tensor, y: Tensor, counted: Tensor
        ) -> tuple[Tensor, Tensor]:
            return per_sample.clipped(self._loss_of, trained, rest, x, y, counted, clip=clip)

        mapped: tuple[Tensor, Tensor] = torch.func.vmap(one)(trained, rest, x, y, counted)
        return mapped


class PrivateUpdate:
    """One local update of one peer: the samples of its steps, and their gradients."""

    def __init__(self, gradients: PrivateGradients, entropy: Entropy, samples: int) -> None:
        self._gradients = gradients
        self._entropy = entropy
        self._samples = samples
        self._rate = gradients.rate(samples)

    def epochs(self, steps: int) -> Iterator[batches.Epoch]:
        """Yield the mini-batches of so many steps, of which some may be empty."""
        for _ in range(steps):
            chosen = self._entropy.chosen(self._samples, self._rate)
            yield batches.Epoch(chosen, (len(chosen),))

    def gradient(self) -> Gradient:
        """Return the gradient of one step, to be asked for once."""

        def gradient(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            total, loss = self._gradients.sum_of(trained, rest, x, y)
            expected = torch.tensor(self._rate * self._samples, dtype=torch.float32, device=total.device)
            return self._gradients.noised(total, expected, [self._entropy]), loss, rest

        return once(gradient)


def check_samples(training: LocalTraining, model: Tensor, x: Tensor) -> None:
    """Raise `SettingError` where a user's network makes of samples `x` (2, …) another thing than of each alone.

    Their gradients would be private all the same, and those of a network that is not the one that is evaluated. One
    that draws random numbers cannot be held against itself.
    """
    forward = training.forward
    if not forward.users or training.draws:
        return
    split = forward.space.trained_size
    forward.module.train()
    with torch.no_grad():
        together = forward(model[:split], model[split:], x)
        alone = torch.cat([forward(model[:split], model[split:], each[None]) for each in x])
    if together.shape != alone.shape or not torch.allclose(together, alone, rtol=AGREEMENT, atol=AGREEMENT):
        raise SettingError(
            "[privacy] kind = 'dp-sgd' is for networks that take each sample by itself, and this one makes of two "
            "samples together something else than of each alone; normalise within a sample, by GroupNorm or LayerNorm"
        )


def budget_of(
    task: Task, samples: int, *, ledger: Ledger | None = None, write: Callable[[bytes], object] | None = None
) -> Budget | None:
    """Return the budget of `[privacy]` for a peer's samples; None where there is no privacy.

    Args:
        task: what is learnt.
        samples: how many the peer trains on.
        ledger: what was spent of them before.
        write: see `Budget`.
    """
    if task.privacy_settings.nothing:
        return None
    local = task.local_settings
    return Budget(
        task.privacy_settings,
        samples=samples,
        batch_size=local.batch_size,
        steps=batches.steps_of(samples, local) if local.deadline_s is None else local.steps_max,
        ledger=ledger,
        write=write,
    )


def budgets_of(task: Task, samples: Sequence[int]) -> list[Budget]:
    """Return the budgets of peers with so many samples, which no disk keeps; none where there is no privacy."""
    budgets = [budget_of(task, count) for count in samples]
    return [budget for budget in budgets if budget is not None]


def once(gradient: Gradient) -> Gradient:
    """Return the gradient for one asking: each is a release of its own, and the ledger has counted one a step.

    Raises, then: SettingError.
    """
    asked: list[bool] = []

    def guarded(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if asked:
            raise SettingError(
                "[local] optimizer asks for more than one gradient a step, and [privacy] counts one; valid: sgd, "
                "adamw, quasi-global, or one of your own that asks once"
            )
        asked.append(True)
        return gradient(trained, rest, x, y)

    return guarded


def refuse_losses(training: LocalTraining) -> None:
    """Raise `SettingError` under `[privacy]`: a mini-batch's losses are asked for, which no noise covers."""
    if training.private is not None:
        raise SettingError(
            "[local] optimizer goes by losses, and [privacy] has noise for gradients only; valid: sgd, adamw, "
            "quasi-global, or one of your own that asks for a gradient"
        )


def _of_hand(
    by_hand: ByHand,
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    return lambda trained, rest, x, y, counted, clip: by_hand(trained, x, y, counted, clip)


def check(space: ParameterSpace, module: nn.Module) -> None:
    """Raise `SettingError` where a network cannot be trained sample by sample: its samples act on each other."""
    norms = list(batch_norms(module))
    kept = [slot.name for slot in space.slots_of(Role.STATISTIC, Role.COUNTER)]
    if norms or kept:
        what = (
            f"normalises its samples by each other in '{norms[0]}' (BatchNorm)"
            if norms
            else f"keeps '{kept[0]}' of its samples, which no noise covers"
        )
        raise SettingError(
            f"[privacy] kind = 'dp-sgd' is for networks that take each sample by itself, and this one {what}; use "
            "GroupNorm or LayerNorm"
        )
