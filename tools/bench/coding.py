"""What does a codec cost? Encoding and decoding a model beside one copy of it, in one run.

    python tools/bench/coding.py [--numbers 25000000] [--threads 1 2] [--repetitions 7] [--torch] [--json] [--smoke]

Every codec of the table, with its default settings. Both directions make new memory, so what they are held against is a
copy of the float32 model into new memory (numpy's, on large pages), taken in turn with them: of its bandwidth they have
the share

    seconds of the copy / (seconds of encode + seconds of decode),

the median over the repetitions. The last column is the same beside `destination.copy_(model)`, a copy into memory that
is there already. int8 and int4 are coded by numba where the extra `fast` is installed and the model is large,
otherwise by torch, as --torch has it; which one it was stands above the table. Where a share is wanted it is told,
and the exit code is 1 if a codec falls short with one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from gossip.draws import Draws
from gossip.wire.codecs import compiled
from gossip.wire.codecs.base import Codec, Copy, Linked
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import WireTensor

WANTED = {"float16": 0.4, "bfloat16": 0.4, "int8": 0.15, "int4": 0.12, "top-change": 0.05}
"""Shares of a copy's bandwidth."""
FIRST = 1
"""The number of the message that is coded."""
DRAWS = Draws(0, "peer-00", 0)


def seconds(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def _rows(codec: Codec, elements: int) -> dict[str, torch.Tensor]:
    """Return what a sender remembers at the beginning."""
    space: Any = SimpleNamespace(learned_size=elements)
    return {key: torch.zeros(1, row.length) for key, row in codec.rows(space).items()}


def _decoded(codec: Codec, tensors: Sequence[WireTensor], copy: torch.Tensor) -> object:
    """Decode; what refers to the messages before on a link, as if they had added up to `copy`."""
    if isinstance(codec, Linked):
        return codec.follow(Copy(FIRST - 1, copy), tensors, len(copy))
    return codec.read(tensors, len(copy))


def measure(codec: Codec, model: torch.Tensor, repetitions: int) -> dict[str, Any]:
    """Return medians of the codec's seconds, and of its shares of both copies' bandwidth."""
    there = torch.empty_like(model)
    rows = _rows(codec, len(model))
    measured: list[tuple[float, float, float, float]] = []
    for repetition in range(repetitions + 1):
        for row in rows.values():
            row.zero_()  # all of the model is news again: one that stayed has nothing to be told of
        new_s = seconds(lambda: model.numpy().copy())
        old_s = seconds(lambda: there.copy_(model))
        encoded: list[Any] = []
        encode_s = seconds(lambda into=encoded: into.extend(codec.write(model, rows, DRAWS, number=FIRST)[0]))
        decode_s = seconds(lambda of=encoded: _decoded(codec, of, there))
        if repetition:  # the first warms up
            measured.append(
                (encode_s, decode_s, new_s / (encode_s + decode_s), old_s / (encode_s + decode_s))
            )
    encode_s, decode_s, share, share_of_old = (
        statistics.median(column) for column in zip(*measured, strict=True)
    )
    gigabytes = model.nbytes / 1e9
    return {
        "codec": codec.name,
        "blocks_by": compiled.coder(len(model)),
        "bytes_per_number": sum(tensor.data.nbytes for tensor in encoded) / len(model),
        "encode_gb_per_s": gigabytes / encode_s,
        "decode_gb_per_s": gigabytes / decode_s,
        "share": share,
        "wanted": WANTED.get(codec.name),
        "share_of_old_memory": share_of_old,
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, default=25_000_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="leave int8 and int4 to torch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a small model, once: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.numbers, options.repetitions, options.threads = 10_001, 1, [1]
    if options.torch:
        compiled.NUMBERS_MIN = sys.maxsize
    model = torch.randn(options.numbers, generator=torch.Generator().manual_seed(0))
    # One that is exact hands over its own memory, in no time.
    choices = [choice.model_validate({}) for choice in CODECS.ours()]
    codecs = [codec for codec in (choice.load()(choice) for choice in choices) if not codec.exact]
    tables: dict[str, list[dict[str, Any]]] = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        tables[f"{threads} threads"] = [measure(codec, model, options.repetitions) for codec in codecs]
    if options.json:
        print(json.dumps(tables, indent=1))
    else:
        show(tables)
    short = [row for row in next(iter(tables.values())) if row["wanted"] and row["share"] < row["wanted"]]
    return int(bool(short) and not options.smoke)


def show(tables: dict[str, list[dict[str, Any]]]) -> None:
    print("int8 and int4, also within others, are coded by " + next(iter(tables.values()))[0]["blocks_by"])
    for name, rows in tables.items():
        print(
            f"\n{name:12}{'bytes/number':>13}{'encode':>11}{'decode':>11}{'of a copy':>11}{'wanted':>8}{'of copy_':>10}"
        )
        for row in rows:
            wanted = "" if row["wanted"] is None else f"{row['wanted']:.2f}"
            print(
                f"{row['codec']:12}{row['bytes_per_number']:13.3f}{row['encode_gb_per_s']:6.2f} GB/s"
                f"{row['decode_gb_per_s']:6.2f} GB/s{row['share']:11.2f}{wanted:>8}{row['share_of_old_memory']:10.2f}"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
