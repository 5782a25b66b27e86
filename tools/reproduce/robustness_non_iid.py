"""Rows 4 to 7 of `robustness.py`: non-i.i.d. data, without attack, with label flippers, and with foreign-swap."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_cases import F_RULES, FLIP, NONE, OTHERS, Case, case
from robustness_claims import LOOSE, Claim, Rows, Table


def row_4() -> list[Case]:
    rules = (*OTHERS, *F_RULES, "local")
    return [case("4", "no attack", rule, NONE, f=2) for rule in rules]


def claims_4(lines: Table) -> Iterator[Claim]:
    bristle, local = lines("no attack", "bristle").mean, lines("no attack", "local").mean
    yield Claim("4", "bristle at least .85 - .03", bristle, bristle >= 0.85 - LOOSE)
    yield Claim("4", "local alone .34 to .40 ± .03", local, 0.34 - LOOSE <= local <= 0.40 + LOOSE)
    for rule in ("krum", "ubar"):
        mean = lines("no attack", rule).mean
        yield Claim("4", f"{rule} at most .5 + .03", mean, mean <= 0.5 + LOOSE)


def row_5() -> list[Case]:
    cases = [case("5", "no attack", "bristle", NONE)]
    for attackers in (15, 24):
        for rule in ("average", "bristle"):
            cases.append(case("5", f"{attackers} flippers", rule, FLIP, attackers=attackers))
    return cases


def claims_5(lines: Table) -> Iterator[Claim]:
    clean = lines("no attack", "bristle").mean
    for attackers in (15, 24):
        mean = lines(f"{attackers} flippers", "bristle").mean
        loss = clean - mean
        yield Claim(
            "5", f"bristle loses at most 3 + 3 points to {attackers} flippers", loss, loss <= 0.03 + LOOSE
        )
    mean = lines("15 flippers", "bristle").mean
    yield Claim("5", "bristle at least .84 under 15 flippers of 25", mean, mean >= 0.84)
    average = lines("15 flippers", "average").mean
    yield Claim("5", "the average under .1 there", average, average < 0.1)


UNDER = ((5, 2), (10, 2), (15, 4))


def row_6() -> list[Case]:
    return [
        case("6", f"{attackers} told {f}", rule, FLIP, attackers=attackers, f=f)
        for attackers, f in UNDER
        for rule in ("trimmed-mean", "nnm+trimmed-mean", "nna", "cs-plus", "bristle")
    ]


def claims_6(lines: Table) -> Iterator[Claim]:
    for attackers, f in UNDER:
        for rule in ("trimmed-mean", "nnm+trimmed-mean", "nna", "cs-plus"):
            mean = lines(f"{attackers} told {f}", rule).mean
            yield Claim("6", f"{rule} falls under .2 with {attackers} flippers and f = {f}", mean, mean < 0.2)
        mean = lines(f"{attackers} told {f}", "bristle").mean
        yield Claim("6", f"bristle at least .84 with {attackers} flippers", mean, mean >= 0.84)


SWAP = ("attack.kind=foreign-swap",)
BROADCAST = (*SWAP, "attack.broadcast=true")


def row_7() -> list[Case]:
    cases = []
    for name, hardened in (("stock", "false"), ("hardened", "true")):
        more = [f"merge.hardened={hardened}"]
        cases += [
            case("7", f"{name}, no attack", "bristle", NONE, more=more),
            case("7", f"{name}, 1 swaps", "bristle", SWAP, attackers=1, more=more),
            case("7", f"{name}, 3 broadcast", "bristle", BROADCAST, attackers=3, more=more),
        ]
    return cases


def claims_7(lines: Table) -> Iterator[Claim]:
    def loss(name: str, what: str) -> float:
        return lines(f"{name}, no attack", "bristle").mean - lines(f"{name}, {what}", "bristle").mean

    stock = loss("stock", "1 swaps")
    yield Claim("7", "stock bristle loses at least .25 - .03 to one swapper", stock, stock >= 0.25 - LOOSE)
    for what in ("1 swaps", "3 broadcast"):
        hardened = loss("hardened", what)
        yield Claim("7", f"hardened bristle loses at most .05 ({what})", hardened, hardened <= 0.05)


ROWS: Rows = {
    "4": (lambda out: row_4(), claims_4),
    "5": (lambda out: row_5(), claims_5),
    "6": (lambda out: row_6(), claims_6),
    "7": (lambda out: row_7(), claims_7),
}
