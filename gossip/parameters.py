"""A model as ONE flat float32 vector with named, role-tagged slots.

Merging, sending and storing a model are then vector arithmetic and one write. What travels comes first:
``vector[:space.learned_size]`` is a view, never a copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from gossip.errors import ProtocolMisuse, SettingError, nearest

PARAMETERS_MAX = 2**30
"""Largest model: 4 GiB as float32. Above, offsets and frame lengths would outgrow what the wire agrees on."""

FROZEN_BLOCK = 1 << 20
"""Numbers of a frozen tensor that are made float32 together, for its digest: it may be larger than memory."""

COUNT_MAX = 2**24
"""Up to here float32 holds every integer exactly; a counter that counts batches stops here."""


class Role(StrEnum):
    """What may happen to a slot. The order is the order in the vector."""

    LEARNED = "learned"
    """Trained, sent and merged."""
    PRIVATE = "private"
    """Trained, never sent: a personal head."""
    STATISTIC = "statistic"
    """Measured on own data (BatchNorm's running mean and variance): neither sent nor merged."""
    COUNTER = "counter"
    """Counts something local (BatchNorm's batches): neither sent nor merged."""
    FROZEN = "frozen"
    """Equal on all peers and constant: never sent, and no part of the vector, because the module itself holds it once
    for all; but its content is part of `space_id`."""


_ORDER = {role: place for place, role in enumerate(Role)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One tensor of the model and its place in the vector."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    """Of its first element in the vector; those of frozen slots count on behind its end."""
    role: Role
    aliases: tuple[str, ...] = ()
    """Other names of the same tensor, where parameters are tied."""
    persistent: bool = True
    """Whether it is part of the module's state dict; a buffer may be kept out."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return torch.Size(self.shape).numel()

    @property
    def end(self) -> int:
        """Offset just after the last element."""
        return self.offset + self.size


class ParameterSpace:
    """The layout of a model's vector, [P] float32.

    Slots are ordered by role (learned, private, statistic, counter) and, within a role, as the module names them.
    Frozen slots are described here but lie in the module: thousands of models then share one extractor, and no merge
    or checkpoint copies what cannot change. Two peers may exchange models only where their `space_id` are equal.
    """

    def __init__(self, slots: tuple[Slot, ...], space_id: str) -> None:
        self.slots = slots
        self.space_id = space_id
        self._held = tuple(slot for slot in slots if slot.role is not Role.FROZEN)
        self.size = self._held[-1].end if self._held else 0
        self.learned_size = _end_of(slots, Role.LEARNED)
        """What travels and is merged: ``vector[:learned_size]``."""
        self.trained_size = _end_of(slots, Role.LEARNED, Role.PRIVATE)
        """What the local update changes: learned and private slots."""
        self._sizes = [slot.size for slot in self._held]
        self._by_name = {slot.name: slot for slot in slots}
        self._aliases = {alias for slot in slots for alias in slot.aliases}

    @classmethod
    def of(
        cls, module: nn.Module, *, roles: Mapping[str, Role | str] | None = None, salt: bytes | str = b""
    ) -> ParameterSpace:
        """Lay out `module`'s parameters and buffers.

        Parameters are learned, or frozen where `requires_grad` is off; floating-point buffers are statistics,
        integer ones counters, or frozen where they hold what float32 cannot, which no counter does. `roles` overrides
        by name. Tied parameters share one slot. `salt` enters the `space_id`: whatever else two peers must have in
        common.

        Raises:
            SettingError: an unknown name or role, a tensor that float32 cannot stand for, nothing to learn,
                or more than 2^30 elements.
        """
        tensors, aliases = _tensors_of(module)
        passing = _not_persistent(module)
        chosen = _chosen_roles(tensors, roles or {})
        ordered = sorted(tensors, key=lambda name: _ORDER[chosen[name]])  # stable: the module's order within
        slots, offset = [], 0
        for name in ordered:
            tensor = tensors[name]
            slot = Slot(
                name=name,
                shape=tuple(tensor.shape),
                dtype=tensor.dtype,
                offset=offset,
                role=chosen[name],
                aliases=tuple(aliases.get(name, ())),
                persistent=name not in passing,
            )
            slots.append(slot)
            offset = slot.end
        held = sum(slot.size for slot in slots if slot.role is not Role.FROZEN)
        if held > PARAMETERS_MAX:
            raise SettingError(
                f"the model has {held:,} parameters and buffer elements that are not frozen; at most "
                f"{PARAMETERS_MAX:,} are supported"
            )
        if not any(slot.role is Role.LEARNED and slot.size for slot in slots):
            raise SettingError("the model has no parameter to learn; at least one must have requires_grad on")
        return cls(tuple(slots), _space_id(tuple(slots), tensors, salt))

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the vector [P] of a state dict (parameters and all buffers by name); always a fresh one.

        Frozen tensors may be missing. Works under `torch.func` transforms. Integers above 2^24 lose their last bits.

        Raises:
            SettingError: a name is missing or unknown, or a shape differs.
        """
        for name in tensors:
            if name not in self._by_name and name not in self._aliases:
                raise SettingError(f"the model has no tensor '{name}'; {nearest(name, self._by_name)}")
        pieces = []
        for slot in self.slots:
            tensor = tensors.get(slot.name)
            if slot.role is Role.FROZEN and tensor is None:
                continue
            if tensor is None:
                raise SettingError(f"tensor '{slot.name}' of the model is missing")
            if tuple(tensor.shape) != slot.shape:
                raise SettingError(
                    f"tensor '{slot.name}' has shape {tuple(tensor.shape)}; the model's is {slot.shape}"
                )
            if slot.role is not Role.FROZEN:
                pieces.append(tensor.reshape(-1).to(torch.float32))
        return torch.cat(pieces)

    def flatten_module(self, module: nn.Module) -> Tensor:
        """Return the vector [P] of the values that `module` holds now."""
        tensors, _ = _tensors_of(module)
        return self.flatten({name: tensor.detach() for name, tensor in tensors.items()})

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the named tensors of `vector` [P]: views where the slot is float32, casts elsewhere; none frozen.

        Works under `torch.func` transforms; the backward of the one split is one concatenation.
        """
        if vector.shape != (self.size,):
            raise ProtocolMisuse(
                f"a vector of shape {tuple(vector.shape)} in a space of {self.size} elements"
            )
        tensors: dict[str, Tensor] = {}
        for slot, piece in zip(self._held, torch.split(vector, self._sizes), strict=True):
            tensor = piece.view(slot.shape)
            if slot.dtype is not torch.float32:
                tensor = tensor.to(slot.dtype)
            for name in (slot.name, *slot.aliases):
                tensors[name] = tensor
        return tensors

    def slot(self, name: str) -> Slot:
        """Return the slot called `name`, or raise `SettingError` naming the nearest."""
        try:
            return self._by_name[name]
        except KeyError:
            raise SettingError(f"the model has no tensor '{name}'; {nearest(name, self._by_name)}") from None

    def slots_of(self, *roles: Role) -> tuple[Slot, ...]:
        """Return the slots that have one of `roles`, in vector order."""
        return tuple(slot for slot in self.slots if slot.role in roles)

    def layout(self) -> list[dict[str, Any]]:
        """Return the slots as plain values, for a checkpoint's metadata."""
        return [_plain(slot) for slot in self.slots]

    def __repr__(self) -> str:
        return f"ParameterSpace({self.size} elements, {self.learned_size} learned, id {self.space_id[:12]})"


def _end_of(slots: tuple[Slot, ...], *roles: Role) -> int:
    return max((slot.end for slot in slots if slot.role in roles), default=0)


def _tensors_of(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Return every parameter and buffer once, under its first name, and the other names it goes by."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, list[str]] = {}
    first_names: dict[int, str] = {}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
            raise SettingError(f"tensor '{name}' has no shape yet; lazy layers must be given their sizes")
        first = first_names.setdefault(id(tensor), name)
        if first == name:
            tensors[name] = tensor
        else:
            aliases.setdefault(first, []).append(name)
    return tensors, aliases


def _chosen_roles(tensors: Mapping[str, Tensor], overrides: Mapping[str, Role | str]) -> dict[str, Role]:
    for name in overrides:
        if name not in tensors:
            raise SettingError(f"a role is given for tensor '{name}', unknown; {nearest(name, tensors)}")
    chosen = {}
    for name, tensor in tensors.items():
        wanted = overrides.get(name)
        if wanted is not None and wanted not in list(Role):
            raise SettingError(f"unknown role '{wanted}' for tensor '{name}'; {nearest(str(wanted), Role)}")
        role = Role(wanted) if wanted is not None else _usual_role(tensor)
        _check(name, tensor, role)
        chosen[name] = role
    return chosen


def _not_persistent(module: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, owner in module.named_modules(remove_duplicate=False)
        for name in owner._non_persistent_buffers_set
    }


def _usual_role(tensor: Tensor) -> Role:
    if isinstance(tensor, nn.Parameter):
        return Role.LEARNED if tensor.requires_grad else Role.FROZEN
    if tensor.is_floating_point():
        return Role.STATISTIC
    return Role.FROZEN if _is_wide(tensor) else Role.COUNTER


def _is_wide(tensor: Tensor) -> bool:
    """Return whether `tensor` holds whole numbers that float32 cannot."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool or not tensor.numel():
        return False
    low, high = torch.aminmax(tensor)
    return max(-int(low), int(high)) > COUNT_MAX


def _check(name: str, tensor: Tensor, role: Role) -> None:
    if tensor.is_complex():
        raise SettingError(f"tensor '{name}' is complex ({tensor.dtype}); use two real tensors")
    if role in (Role.LEARNED, Role.PRIVATE) and not tensor.requires_grad:
        raise SettingError(
            f"tensor '{name}' cannot be {role}: it has no gradient (valid: statistic, counter, frozen)"
        )
    if role is Role.STATISTIC and not tensor.is_floating_point():
        raise SettingError(
            f"tensor '{name}' cannot be a statistic: it holds {tensor.dtype} (valid: counter, frozen)"
        )
    if role is not Role.FROZEN and _is_wide(tensor):
        raise SettingError(
            f"tensor '{name}' cannot be a {role}: it holds integers above 2^24, which float32 cannot (valid: frozen)"
        )


def _plain(slot: Slot) -> dict[str, Any]:
    return {
        "name": slot.name,
        "shape": list(slot.shape),
        "dtype": str(slot.dtype).removeprefix("torch."),
        "offset": slot.offset,
        "role": slot.role.value,
        "aliases": list(slot.aliases),
    }


def _space_id(slots: tuple[Slot, ...], tensors: Mapping[str, Tensor], salt: bytes | str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    salt_bytes = salt.encode() if isinstance(salt, str) else salt
    digest.update(len(salt_bytes).to_bytes(8, "big") + salt_bytes)
    digest.update(json.dumps([_plain(slot) for slot in slots], sort_keys=True).encode())
    for slot in slots:
        if slot.role is Role.FROZEN:
            tensor = tensors[slot.name].detach()
            dtype = torch.int64 if _is_wide(tensor) else torch.float32
            for block in torch.split(tensor.reshape(-1), FROZEN_BLOCK):
                digest.update(block.to("cpu", dtype).contiguous().numpy().data)
    return digest.hexdigest()
