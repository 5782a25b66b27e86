"""Decode bytes that nobody wrote, with every codec of the table: ``python tools/fuzz/decoding.py``.

    --decodes N   of all codecs together (default 1,000,000: two to three minutes)
    --seed N      of the bytes
    --smoke       a few decodes of each

Each codec is tried as it is by default, and with each value of its settings that are a choice of words. Its bytes have
the agreed shapes, and are random, all alike, or what its encoder wrote with some bytes changed. What comes out must be
numbers or "garbage"; anything else is printed with what repeats it, and the exit code is 1. A codec that is added to
the table is tried with the others.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from pydantic import ValidationError

from gossip.draws import Draws
from gossip.errors import PeerError
from gossip.partial import Partial
from gossip.wire.codecs.base import Codec, Copy, Linked
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import TensorSpec, WireTensor

LENGTHS = (1, 2, 7, 8, 63, 64, 65, 200, 257)
"""Numbers of models: about the ends of blocks, bytes and words."""
LAST_NUMBER = 4
"""Of the message that a link's copy is of."""
SMOKE_DECODES = 400
KEPT_MAX = 3
"""Sentences of one codec that are shown."""


@dataclass
class Count:
    """What came of a codec."""

    name: str
    decodes: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def variants() -> Iterator[tuple[str, Codec]]:
    """Yield every codec of the table, by default and with each value of its settings that are a choice of words."""
    for kind in CODECS.kinds():
        settings = CODECS.settings_for(kind)
        tried = [settings()]
        for name, info in settings.model_fields.items():
            if get_origin(info.annotation) is Literal:
                for value in get_args(info.annotation):
                    try:
                        choice = settings.model_validate({name: value})
                    except ValidationError:
                        continue  # goes with another setting only
                    if choice not in tried:
                        tried.append(choice)
        for choice in tried:
            said = choice.model_dump(exclude_defaults=True)
            yield " ".join((kind, *(f"{key}={value}" for key, value in said.items()))), choice.load()(choice)


def decode(codec: Codec, tensors: Sequence[WireTensor], elements: int) -> bool:
    """Decode and check what comes out; return whether it was refused.

    The codec's own words are heard: `read` and `follow` would take any mistake for the sender's.
    """
    try:
        if isinstance(codec, Linked):
            copy = codec._follow(Copy(LAST_NUMBER, torch.zeros(elements)), tensors, elements)
            made: Any = torch.zeros(elements) if copy is None else copy.vector
        else:
            made = codec.received(tensors, elements)
    except PeerError as error:
        said = str(error)
        if error.reason != "garbage" or not said or "\n" in said or len(said) > 300:
            raise AssertionError(
                f"refused as '{error.reason}', in other than one sentence: {said!r}"
            ) from None
        return True
    if isinstance(made, Partial):
        places = made.places
        if made.of != elements or made.values.shape != places.shape or places.dtype != torch.int64:
            raise AssertionError(f"{len(made.values)} values for {len(places)} places of {made.of}")
        if len(places) and not (
            int(places[0]) >= 0 and int(places[-1]) < elements and bool((places.diff() > 0).all())
        ):
            raise AssertionError(f"places that do not ascend within {elements}: {places.tolist()}")
        made = made.values
    elif made.shape != (elements,):
        raise AssertionError(f"{tuple(made.shape)} for {elements} numbers")
    if made.dtype != torch.float32:
        raise AssertionError(f"numbers of {made.dtype}")
    return False


@functools.cache
def written(codec: Codec, elements: int) -> tuple[tuple[WireTensor, ...], ...]:
    """Return what the encoder makes of some vectors."""
    space: Any = SimpleNamespace(learned_size=elements)
    made: list[tuple[WireTensor, ...]] = []
    for number in range(4):
        rows = {key: torch.zeros(1, row.length) for key, row in codec.rows(space).items()}
        vector = torch.randn(elements, generator=torch.Generator().manual_seed(number)) * 10.0 ** (number - 2)
        draws = Draws(0, "alice", number)
        made.append(codec.write(vector, rows, draws, number=LAST_NUMBER + 1)[0])
        if isinstance(codec, Linked):
            made.append(codec.anew(rows, number=number))
    return tuple(made)


def changed(rng: np.random.Generator, tensors: Sequence[WireTensor]) -> list[WireTensor]:
    """Return tensors of which some bytes are others, and those that may be are of another length."""
    made = []
    for tensor in tensors:
        data = np.frombuffer(tensor.data, np.uint8).copy()
        if len(data) and rng.random() < 0.6:
            for _ in range(int(rng.integers(1, 4))):
                data[rng.integers(len(data))] = rng.choice((0, 1, 8, 127, 128, 255, int(rng.integers(256))))
        made.append(WireTensor(tensor.dtype, tensor.shape, memoryview(bytearray(data.tobytes()))))
    return made


def drawn(rng: np.random.Generator, specs: Sequence[TensorSpec]) -> list[WireTensor]:
    """Return tensors of any bytes."""
    made = []
    for spec in specs:
        length = int(rng.integers(1, spec.shape[0] + 1)) if spec.shorter else None
        shape = spec.shape if length is None else (length,)
        nbytes = spec.nbytes if length is None else length
        fill = rng.integers(6)
        data = rng.bytes(nbytes) if fill else bytes([rng.choice((0, 0x7F, 0x80, 0x88, 0xFF))]) * nbytes
        made.append(WireTensor(spec.dtype, shape, memoryview(bytearray(data))))
    return made


def inputs(codec: Codec, seed: int) -> Iterator[tuple[list[WireTensor], int]]:
    """Yield tensors, and how many numbers they should hold, for ever."""
    rng = np.random.default_rng(seed)
    while True:
        elements = int(rng.choice(LENGTHS))
        samples = written(codec, elements)
        for _ in range(16):
            if rng.random() < 0.5:
                yield changed(rng, samples[rng.integers(len(samples))]), elements
            else:
                yield drawn(rng, codec.specs(elements)), elements


def run(name: str, codec: Codec, decodes: int, seed: int) -> Count:
    """Decode so often with one codec."""
    count = Count(name)
    for tensors, elements in inputs(codec, seed):
        if count.decodes >= decodes:
            break
        count.decodes += 1
        try:
            count.refused += decode(codec, tensors, elements)
        except Exception:
            shown = " ".join(bytes(tensor.data).hex() for tensor in tensors)
            count.wrong.append(f"{elements} numbers from {shown}\n{traceback.format_exc()}")
    return count


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decodes", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few decodes of each: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tried = list(variants())
    each = -(-(SMOKE_DECODES if options.smoke else options.decodes) // len(tried))
    total = wrong = 0
    for name, codec in tried:
        began_s = time.monotonic()
        count = run(name, codec, each, options.seed)
        seconds = time.monotonic() - began_s
        total, wrong = total + count.decodes, wrong + len(count.wrong)
        print(
            f"{name:32}{count.decodes:>10,} decodes {count.decodes / seconds:>8,.0f}/s"
            f"{count.refused:>10,} refused {len(count.wrong):>6} errors",
            flush=True,
        )
        for sentence in count.wrong[:KEPT_MAX]:
            print(f"  {sentence}")
    print(f"{total:,} decodes in all, {wrong} errors")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
