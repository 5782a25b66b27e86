"""A module as a pure function of its vector: ``logits = forward(trained, rest, x)``.

`torch.func.functional_call` does the same, but costs as much as a small network's whole training step; this
puts the vector's slices straight into the module's own tables. The module is shared, so one thread at a time.

A backward pass may read the module once more: activation checkpointing computes a layer again, hooks look at weights.
So whoever takes gradients does both passes within `Forward.holding`, as long as which the module has the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from gossip.errors import GossipError, SettingError
from gossip.learning import user_code
from gossip.learning.generators import Generators, Watch
from gossip.parameters import ParameterSpace, Role, Slot

_Site: TypeAlias = tuple[Any, str | int]
"""A table of the module and the key under which it holds a tensor."""


class Forward:
    """The module's forward pass with its tensors taken from a vector; differentiable in `trained`.

    `trained` [T] are the learned and private slots, `rest` [P-T] statistics and counters. Frozen slots stay as the
    module holds them. Works under `torch.func` transforms.
    """

    def __init__(
        self,
        module: nn.Module,
        space: ParameterSpace,
        *,
        users_name: str | None = None,
        part: nn.Module | None = None,
    ) -> None:
        """Take a module.

        `users_name` is the setting that named it where it is a user's own, to be blamed by. `part`, a submodule that
        holds all that is not frozen, is called instead of the whole: with what the frozen layers make of samples.
        """
        self.module = module
        self.part = module if part is None else part
        self._users_name = users_name
        self.space = space
        held = [slot for slot in space.slots if slot.role is not Role.FROZEN]
        self._sites = [_sites(module, slot) for slot in held]
        self._originals = [sites[0][0][sites[0][1]] for sites in self._sites]
        trained = space.slots_of(Role.LEARNED, Role.PRIVATE)
        rest = space.slots_of(Role.STATISTIC, Role.COUNTER)
        self._trained = [(slot.shape, _cast(slot)) for slot in trained]
        self._rest = [(slot.shape, _cast(slot)) for slot in rest]
        self._trained_sizes = [slot.size for slot in trained]
        self._rest_sizes = [slot.size for slot in rest]
        self._mutable_sites = [_sites(module, slot)[0] for slot in rest]

    @property
    def users(self) -> bool:
        """Whether the network is a user's own."""
        return self._users_name is not None

    @property
    def updates_rest(self) -> bool:
        """Whether a forward pass in training mode may change statistics or counters."""
        return bool(self._mutable_sites)

    def __call__(self, trained: Tensor, rest: Tensor, x: Tensor) -> Tensor:
        """Return the logits (batch, classes) for `x` (batch, *input_shape)."""
        return self.with_updates(trained, rest, x)[0]

    def with_updates(self, trained: Tensor, rest: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, and `rest` as the pass left it (new statistics and counters). Inputs stay as they are."""
        return self.with_pieces(self.pieces(trained), rest, x)

    def pieces(self, trained: Tensor) -> list[Tensor]:
        """Return the trained slots of `trained` [T] as views in their shapes, float32."""
        return [
            piece.view(shape)
            for piece, (shape, _) in zip(
                torch.split(trained, self._trained_sizes), self._trained, strict=True
            )
        ]

    def with_pieces(self, pieces: Sequence[Tensor], rest: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Do what `with_updates` does, with the trained slots one by one."""
        with self.holding(pieces, rest, x):
            logits = self.logits(x)
            return logits, self.rest_now(rest)

    @contextmanager
    def holding(self, pieces: Sequence[Tensor], rest: Tensor, x: Tensor) -> Iterator[None]:
        """Let the module hold the trained slots `pieces` and a copy of `rest`, whoever reads it meanwhile.

        Inside, `logits` is the forward pass and `rest_now` what has become of `rest`.

        Raises:
            SettingError: a user's network fails on the samples `x`, in whichever pass.
        """
        values = [
            piece if dtype is None else piece.to(dtype)
            for piece, (_, dtype) in zip(pieces, self._trained, strict=True)
        ]
        if self._rest:
            for piece, (shape, dtype) in zip(torch.split(rest, self._rest_sizes), self._rest, strict=True):
                value = _shaped(piece, shape, dtype)
                # Modules update their buffers in place; a cast has copied already.
                values.append(value.clone() if dtype is None else value)
        try:
            for value, sites in zip(values, self._sites, strict=True):
                for table, key in sites:
                    table[key] = value
            yield
        except GossipError:
            raise
        except (Exception, SystemExit) as failure:
            if self._users_name is None:
                raise
            raise SettingError(
                f"[model] name = '{self._users_name}' fails on samples of shape {tuple(x.shape)}: "
                f"{user_code.one_line(failure)}"
            ) from failure
        finally:
            for original, sites in zip(self._originals, self._sites, strict=True):
                for table, key in sites:
                    table[key] = original

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits by the values that the module holds now."""
        return self.part(x)  # type: ignore[no-any-return]

    def rest_now(self, rest: Tensor) -> Tensor:
        """Return what has become of `rest`: new statistics and counters."""
        if not self._mutable_sites:
            return rest
        # Read the tables again: a module may also have bound a new tensor to the name.
        updated = [table[key].reshape(-1).to(torch.float32) for table, key in self._mutable_sites]
        return torch.cat(updated).detach()


def _cast(slot: Slot) -> torch.dtype | None:
    return None if slot.dtype is torch.float32 else slot.dtype


def _shaped(piece: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None) -> Tensor:
    tensor = piece.view(shape)
    return tensor if dtype is None else tensor.to(dtype)


def _sites(module: nn.Module, slot: Slot) -> list[_Site]:
    """Return every place where the module holds the slot's tensor, its first name first."""
    sites: list[_Site] = []
    for name in (slot.name, *slot.aliases):
        owner_name, _, key = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        table = owner._parameters if key in owner._parameters else owner._buffers
        sites.append((table, key))
        if isinstance(owner, nn.RNNBase) and key in owner._flat_weights_names:
            # Recurrent layers read this list, not their attributes.
            sites.append((owner._flat_weights, owner._flat_weights_names.index(key)))
    return sites


class Probed(NamedTuple):
    """What two samples told about a network."""

    logits: Tensor
    draws: Generators
    """From which generators it draws, while it trains or while it is evaluated."""


def probe(
    forward: Forward, model: Tensor, x: Tensor, check: Callable[[Any], str | None], *, name: str, seed: int
) -> Probed:
    """Run `model` [P] on samples `x` (2, …) in both modes; tell which generators it draws from (dropout).

    `check` says what is wrong with the outputs.

    Raises:
        SettingError: the pass fails, or does not give what it should.
    """
    split = forward.space.trained_size
    with user_code.seeded_globals(seed), torch.no_grad():
        watch = Watch()
        try:
            for training in (False, True):
                forward.module.train(training)
                logits = forward(model[:split], model[split:], x)
        except (Exception, SystemExit) as failure:
            cause = (failure.__cause__ or failure) if isinstance(failure, SettingError) else failure
            raise SettingError(
                f"[model] name = '{name}' cannot take samples of shape {tuple(x.shape[1:])}"
                f"{'' if x.is_floating_point() else ', whole numbers'}: {user_code.one_line(cause)}"
            ) from cause
        draws = watch.drawn()
    wrong = check(logits)
    if wrong is not None:
        raise SettingError(f"[model] name = '{name}' {wrong}")
    return Probed(logits, draws)
