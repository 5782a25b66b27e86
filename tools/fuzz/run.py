"""Feed bytes to everything that reads bytes of others: ``python tools/fuzz/run.py [--executions N] [--target X …]``.

    --executions N     of each target (default 100,000)
    --target X …       some targets; `--list` names them
    --engine           atheris (guided by coverage; `pip install -e '.[fuzz]'`) or mutation (blind, needs nothing);
                       the default is atheris where it is installed
    --seed N           of the mutations
    --reproduce FILE   run one target once, on the bytes of a file
    --smoke            a few mutations for each target, in this process and without a limit to its memory

A crash is whatever a target lets out (see `targets.py`), or memory that grows beyond the limit. Its bytes lie in
`tools/fuzz/found/` and the command that repeats it is printed; the exit code is then 1. Each becomes a test in
`tests/unit/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE / "found"
BYTES_MAX = 70_000
"""Longer than the longest control frame, or anything in the seeds."""
MEMORY_BYTES_MAX = 512 << 20
"""What one process may take beyond what it has after importing: hostile bytes must not cost more than they are."""
TARGET_S_MAX = 600.0
SMOKE_EXECUTIONS = 30
"""Of each target, its seeds among them."""


@dataclass
class Count:
    """What came of a target."""

    executions: int
    seconds: float
    crashes: list[Path]
    text: str = ""


def mutate(draw: random.Random, seeds: Sequence[bytes], dictionary: Sequence[bytes]) -> bytes:
    """Return one of the seeds with one to eight changes."""
    data = bytearray(draw.choice(seeds))
    for _ in range(1 << draw.randrange(4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(9):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[at % len(data)] = draw.randrange(256)
            case 2:
                data[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 3:
                del data[at : at + draw.randrange(1, 17)]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = draw.choice(dictionary)
            case 6:
                other = draw.choice(seeds)
                cut = draw.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case 7:
                piece = data[at : at + draw.randrange(1, 65)]
                data[at:at] = piece * draw.choice((1, 1, 2, 50))
            case _:
                number = draw.choice((0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
                width = draw.choice((1, 2, 4, 8))
                data[at : at + width] = (number & (2 ** (8 * width) - 1)).to_bytes(
                    width, draw.choice(("big", "little"))
                )
    return bytes(data[:BYTES_MAX])


def blind(name: str, executions: int, seed: int, *, bounded: bool = True) -> Count:
    """Run a target on mutations of its seeds, in this process, whose memory is bounded for good."""
    from targets import DICTIONARY, TARGETS

    target = TARGETS[name]
    seeds = target.seeds()
    draw = random.Random(f"{name} {seed}")
    if bounded:
        _bound_memory()
    crashes: list[Path] = []
    kinds: set[str] = set()
    began_s, done = time.monotonic(), 0
    for data in _inputs(draw, seeds, DICTIONARY, executions):
        done += 1
        try:
            target.run(data)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {where.filename}:{where.lineno}"
            if kind not in kinds:
                kinds.add(kind)
                crashes.append(_keep(name, data))
                traceback.print_exc()
        if time.monotonic() - began_s > TARGET_S_MAX:
            break
    return Count(done, time.monotonic() - began_s, crashes)


def _inputs(draw, seeds, dictionary, executions):  # type: ignore[no-untyped-def]
    yield from seeds
    for _ in range(executions - len(seeds)):
        yield mutate(draw, seeds, dictionary)


def _keep(name: str, data: bytes) -> Path:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def _bound_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES_MAX, size + MEMORY_BYTES_MAX))


def guided(name: str, executions: int, seed: int) -> None:
    """Run a target under atheris, which ends this process."""
    import atheris

    with atheris.instrument_imports(include=["gossip"]):
        from targets import DICTIONARY, TARGETS
    target = TARGETS[name]
    corpus = HERE / "found" / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for data in (*target.seeds(), *DICTIONARY):
        (corpus / f"seed-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
    arguments = [
        sys.argv[0],
        f"-runs={executions}",
        f"-seed={seed + 1}",
        f"-max_len={BYTES_MAX}",
        "-timeout=20",
    ]
    arguments += [f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", "-verbosity=0", str(corpus)]
    atheris.Setup(arguments, target.run)
    _bound_memory()
    atheris.Fuzz()


def in_a_process(name: str, engine: str, executions: int, seed: int) -> Count:
    """Run a target in a process of its own; what kills that is a crash as well."""
    FOUND.mkdir(exist_ok=True)
    before = set(FOUND.iterdir())
    command = [sys.executable, __file__, "--engine", engine, "--inside", name]
    command += ["--executions", str(executions), "--seed", str(seed)]
    began_s = time.monotonic()
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=TARGET_S_MAX + 60, check=False
        )
        text, code = ended.stdout + ended.stderr, ended.returncode
    except subprocess.TimeoutExpired as error:
        text, code = str(error), 1
    found = re.search(r"number_of_executed_units:\s*(\d+)", text) or re.search(
        r"^executions (\d+)", text, re.M
    )
    crashes = sorted(path for path in set(FOUND.iterdir()) - before if path.is_file())
    if code and not crashes:
        crashes = [FOUND / f"{name}-without-bytes"]
        crashes[0].write_text(text)
    return Count(int(found[1]) if found else 0, time.monotonic() - began_s, crashes, text if code else "")


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--target", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--engine", choices=("atheris", "mutation"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reproduce", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a few executions: to see that it works")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.smoke:
        given.engine, given.executions = "mutation", SMOKE_EXECUTIONS
    engine = given.engine or ("atheris" if importlib.util.find_spec("atheris") else "mutation")
    if given.inside and engine == "atheris":
        guided(given.inside, given.executions, given.seed)
    if given.inside:
        count = blind(given.inside, given.executions, given.seed)
        print(f"executions {count.executions}")
        return int(bool(count.crashes))
    from targets import TARGETS

    names = given.target or list(TARGETS)
    if given.list or not set(names) <= set(TARGETS):
        print("\n".join(TARGETS))
        return 0 if given.list else 2
    if given.reproduce:
        TARGETS[names[0]].run(given.reproduce.read_bytes())
        return 0
    total, crashed = 0, False
    for name in names:
        if given.smoke:
            count = blind(name, given.executions, given.seed, bounded=False)
        else:
            count = in_a_process(name, engine, given.executions, given.seed)
        total += count.executions
        rate = count.executions / count.seconds if count.seconds else 0
        print(
            f"{name:15} {count.executions:>9,} executions  {rate:>8,.0f}/s  {len(count.crashes)} crashes ({engine})",
            flush=True,
        )
        for path in count.crashes:
            crashed = True
            print(
                f"  python tools/fuzz/run.py --target {name} --reproduce {path.relative_to(HERE.parents[1])}"
            )
        if count.text:
            print("  " + "\n  ".join(count.text.strip().splitlines()[-25:]))
    print(f"{total:,} executions in all")
    return int(crashed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
