"""What a model passes between two exchanges: stages, and the rows of numbers by which a peer remembers.

A stage is a function of stacks: it takes models (n, …) of n peers with what each of them remembers, and returns the
same, its arguments unchanged. It holds nothing of any peer itself. What a peer must remember between two calls are rows
of a table that whoever runs the stage owns (`PeerState`): a real node's has one row, a simulation's one per peer. So
the same few lines serve both, and a restart, a checkpoint and a peer that begins anew are the table's business.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gossip.errors import CheckpointError
from gossip.parameters import ParameterSpace

State: TypeAlias = dict[str, Tensor]
"""What n peers remember for one stage: name -> float32 (n, length)."""


class Rows(NamedTuple):
    """What one peer remembers under one name."""

    length: int
    """Numbers, float32."""
    kept: bool = True
    """Whether it lives on from one call to the next, and through a restart; else every call begins with zeros."""


class Stage(abc.ABC):  # noqa: B024 - what a stage does is its subclass' to say
    """Something that models pass. Zeros are what is remembered before anything was."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return what one peer remembers; {} for most."""
        return {}


class PeerState:
    """What the peers of one process remember for all stages.

    Args:
        stages: by the name under which a checkpoint has their rows.
        space: layout of the models.
        peers: how many; row k is peer k's.
        device: where the rows lie.
        zeros: makes the tables of what is kept, as `torch.zeros` does.
    """

    def __init__(
        self,
        stages: Mapping[str, Stage],
        space: ParameterSpace,
        *,
        peers: int = 1,
        device: torch.device | str = "cpu",
        zeros: Callable[..., Tensor] = torch.zeros,
    ) -> None:
        self._device = torch.device(device)
        self._rows = {name: dict(stage.rows(space)) for name, stage in stages.items()}
        self._tables: dict[str, State] = {
            name: {
                key: zeros(peers, row.length, device=self._device) for key, row in rows.items() if row.kept
            }
            for name, rows in self._rows.items()
        }
        self.peers = peers

    def keeps(self, stage: str) -> bool:
        """Return whether anything of the stage lives on between calls."""
        return bool(self._tables.get(stage))

    @property
    def empty(self) -> bool:
        """Whether nothing at all is remembered."""
        return not any(self._tables.values())

    @property
    def names(self) -> list[str]:
        """What is remembered, as `export` calls it."""
        return [f"{stage}.{key}" for stage, tables in self._tables.items() for key in tables]

    def gather(self, stage: str, peers: Sequence[int]) -> State:
        """Return the rows of `peers`: what is kept, and zeros for the rest.

        Of a table with one row it is the row itself: a large model's is not copied, and may be written over.
        """
        tables = self._tables[stage]
        if self.peers == 1:
            kept = dict(tables)
        else:
            at = torch.tensor(peers, device=self._device)
            kept = {key: table.index_select(0, at) for key, table in tables.items()}
        for key, row in self._rows[stage].items():
            if not row.kept:
                kept[key] = torch.zeros(len(peers), row.length, device=self._device)
        return kept

    def scatter(self, stage: str, peers: Sequence[int], state: State) -> None:
        """Take over what `peers` remember now; what is not kept is dropped."""
        tables = self._tables[stage]
        if self.peers == 1:
            for key, table in tables.items():
                if state[key].data_ptr() != table.data_ptr():
                    table.copy_(state[key])
        elif tables:
            at = torch.tensor(peers, device=self._device)
            for key, table in tables.items():
                table.index_copy_(0, at, state[key])

    def zero(self, peer: int) -> None:
        """Forget all that `peer` remembers: its process has ended."""
        for tables in self._tables.values():
            for table in tables.values():
                table[peer] = 0

    def export(self, peer: int) -> dict[str, Tensor]:
        """Return copies of what `peer` remembers, on the CPU: ``"stage.name"`` -> (length,)."""
        return {
            f"{stage}.{key}": table[peer].detach().to("cpu", copy=True)
            for stage, tables in self._tables.items()
            for key, table in tables.items()
        }

    def restore(self, peer: int, rows: Mapping[str, Tensor]) -> None:
        """Take over what `export` returned. Nothing: a checkpoint of before there were rows; it begins with zeros.

        Raises:
            CheckpointError: other rows than these stages remember, or of another length.
        """
        wanted = {
            f"{stage}.{key}": table for stage, tables in self._tables.items() for key, table in tables.items()
        }
        found = {key: tuple(row.shape) for key, row in rows.items()}
        if found and found != {key: tuple(table.shape[1:]) for key, table in wanted.items()}:
            raise CheckpointError(
                f"the checkpoint remembers {sorted(found) or 'nothing'} beside the model, and with these settings it "
                f"would be {sorted(wanted) or 'nothing'}; use the settings it was made with, or --fresh to start over"
            )
        for key, row in rows.items():
            wanted[key][peer] = row.to(self._device)
