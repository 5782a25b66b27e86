"""Which parts of a network are learnt together, which stay with each peer, and which stay as they are.

`[model] learned`, `private` and `frozen` are patterns of tensor names, as in a shell (``head.*``, ``*.bias``). Of
several that match a tensor private decides before frozen, and frozen before learned. With `learned` alone, all else is
frozen; beside an adapter all is but what that learns, and `learned` adds to it. Private parameters are trained and
never sent: a personal head (Arivazhagan et al. 2019; Collins et al., ICML 2021). What is frozen is equal on all
peers, and part of what they agree on.

`[model] start` are values to begin with, by tensor names, from a safetensors file: a pre-trained backbone. Its content
is part of what peers agree on, too.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from gossip.errors import SettingError, nearest
from gossip.learning import mapped_base, user_code
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.settings import ModelSettings
from gossip.parameters import Role

SHOWN = 6
"""Names in a sentence."""


def roles(settings: ModelSettings, network: nn.Module) -> dict[str, Role]:
    """Set `requires_grad` as `[model]` says, and return the roles of tensors that are not the usual ones.

    Raises:
        SettingError: a pattern matches no tensor, or a private one no parameter.
    """
    parameters = {name for name, _ in network.named_parameters()}
    names = [*parameters, *(name for name, _ in network.named_buffers())]
    private = _matching(settings.private, names, "private")
    frozen = _matching(settings.frozen, names, "frozen") - private
    learned = _matching(settings.learned, names, "learned")
    for name in sorted(private - parameters):
        raise SettingError(
            f"[model] private: '{name}' is a buffer, which every peer keeps for itself anyway; valid: parameters"
        )
    if settings.adapter is not None:
        # What it learns was set by `adapt`; all else is the base's, and stays as it is.
        of_adapter = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        frozen |= set(names) - of_adapter - learned - private
        _refuse_frozen_factors(settings.adapter, learned | private)
    elif settings.learned is not None:
        frozen |= parameters - learned - private
    for name, parameter in network.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
        elif name in private | learned:
            parameter.requires_grad_(True)
    return {
        **dict.fromkeys(sorted(frozen - parameters), Role.FROZEN),
        **dict.fromkeys(sorted(private), Role.PRIVATE),
    }


def _refuse_frozen_factors(adapter: AdapterSettings, trained: set[str]) -> None:
    for name in sorted(trained):
        if name.rpartition(".")[2] in adapter.frozen_factors:
            raise SettingError(
                f"[model] learned or private matches '{name}', which [model.adapter] train = '{adapter.train}' has "
                "frozen; valid: patterns that leave it out"
            )


def _matching(patterns: Sequence[str] | None, names: Iterable[str], key: str) -> set[str]:
    found: set[str] = set()
    known = list(names)
    for pattern in patterns or ():
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise SettingError(
                f"[model] {key} = '{pattern}' matches no tensor of the network; {nearest(pattern, known)}"
            )
        found.update(matching)
    return found


def begun(build: Callable[[], nn.Module], path: Path | None, *, mapped: bool) -> nn.Module:
    """Return what `build` makes, with the tensors of the file at `path`; large ones stay there where they are `mapped`.

    Raises:
        SettingError: as `begin`.
    """
    made = mapped_base.made(build, path) if path is not None and mapped and path.is_file() else None
    network = build() if made is None else made
    if path is not None:
        begin(network, path, mapped=made is not None)
    return network


def begin(network: nn.Module, path: Path, *, mapped: bool = False) -> None:
    """Put the tensors of a file into the network's of the same names; the others stay as they are.

    With `mapped`, the large ones are the file's already.

    Raises:
        SettingError: there is no such file, it cannot be read, has another shape, or no name in common.
    """
    if not path.is_file():
        raise SettingError(f"[model] start: there is no file {path}")
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    try:
        with safetensors.safe_open(path, framework="pt") as file, torch.no_grad():
            there = set(file.keys())
            for name in sorted(there & named.keys()):
                _put(named[name], file.get_tensor(name), name, path, mapped=mapped)
    except (safetensors.SafetensorError, OSError) as failure:
        raise SettingError(
            f"[model] start: {path} is not a readable .safetensors file: {user_code.one_line(failure)}"
        ) from None
    if not there & named.keys():
        shown = ", ".join(sorted(there)[:SHOWN])
        raise SettingError(
            f"[model] start: no tensor of {path} ({shown}, …) is called as one of the network ("
            f"{', '.join(sorted(named)[:SHOWN])}, …)"
        )


def _put(tensor: Tensor, value: Tensor, name: str, path: Path, *, mapped: bool) -> None:
    if tensor.shape != value.shape:
        raise SettingError(
            f"[model] start: {path}: '{name}' has shape {tuple(value.shape)}; the network's is {tuple(tensor.shape)}"
        )
    if not (mapped and tensor.numel() >= mapped_base.LARGE):
        tensor.copy_(value)
    if tensor.is_floating_point() and not mapped_base.is_finite(tensor):
        raise SettingError(f"[model] start: {path}: '{name}' holds what is not finite in {tensor.dtype}")


def names_in(path: Path) -> set[str]:
    """Return the names of a file's tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        return set(file.keys())


def hash_of(path: Path) -> str:
    """Return 32 hexadecimal digits that name the content of a file; '' where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
