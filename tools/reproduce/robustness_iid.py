"""Rows 1 to 3 of `robustness.py`: i.i.d. data, without attack and with few and many attackers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from robustness_cases import F_RULES, FLIP, IID, MOMENTUM, NONE, OTHERS, SOME, Case, case
from robustness_claims import LOOSE, Claim, Rows, Table


def row_1() -> list[Case]:
    rules = (*OTHERS, *F_RULES, "local")
    # Those that are told f are told two, which costs honest models where nobody attacks.
    return [case("1", "no attack", rule, NONE, data=IID, f=2, more=MOMENTUM) for rule in rules]


def claims_1(lines: Table) -> Iterator[Claim]:
    average = lines("no attack", "average").mean
    for rule in (
        "median",
        "geometric-median",
        "trimmed-mean",
        "multi-krum",
        "nnm+trimmed-mean",
        "nna",
        "cs-plus",
    ):
        mean = lines("no attack", rule).mean
        yield Claim(
            "1", f"{rule} within 2 points of the average ({average:.3f})", mean, mean >= average - 0.02
        )
    bristle = lines("no attack", "bristle").mean
    yield Claim("1", "bristle within 2 points of the average", bristle, bristle >= average - 0.02)
    yield Claim("1", "bristle at least .95 - .03", bristle, bristle >= 0.95 - LOOSE)


ROBUST = ("median", "trimmed-mean", "nnm+trimmed-mean", "nna", "cs-plus", "bristle")


def row_2() -> list[Case]:
    def one(what: str, rule: str, attack: Sequence[str], more: Sequence[str] = MOMENTUM) -> Case:
        attackers = 0 if what == "no attack" else 4
        return case("2", what, rule, attack, data=IID, attackers=attackers, f=4, more=more)

    attacks = {"no attack": NONE, **SOME, "flip alone": FLIP}
    cases = [one(what, rule, attack) for what, attack in attacks.items() for rule in ("average", *ROBUST)]
    plain = [one(what, "cs-plus", attack, more=()) for what, attack in attacks.items()]
    return [*cases, *(replace(each, rule="cs-plus, no momentum") for each in plain)]


def claims_2(lines: Table) -> Iterator[Claim]:
    for rule in ROBUST:
        clean = lines("no attack", rule).mean
        loss = max(clean - lines(what, rule).mean for what in SOME)
        worst = max(SOME, key=lambda what, rule=rule, clean=clean: clean - lines(what, rule).mean)  # type: ignore[misc]
        yield Claim(
            "2",
            f"{rule} loses at most 3 + 3 points to any attack (most to {worst})",
            loss,
            loss <= 0.03 + LOOSE,
        )
    for what in ("flip alone", "gaussian"):
        mean = lines(what, "average").mean
        yield Claim("2", f"the average collapses under {what}", mean, mean < 0.5)


MAJORITY = {"label-flip": FLIP, "sign-flip": SOME["sign-flip"]}


def row_3() -> list[Case]:
    return [
        case("3", what, rule, attack, data=IID, attackers=12, more=MOMENTUM)
        for what, attack in MAJORITY.items()
        for rule in ("median", "trimmed-mean", "nnm+trimmed-mean", "bristle")
    ]


def claims_3(lines: Table) -> Iterator[Claim]:
    for what in MAJORITY:
        for rule in ("median", "trimmed-mean", "nnm+trimmed-mean"):
            mean = lines(what, rule).mean
            yield Claim("3", f"{rule} collapses under 12 {what} of 22", mean, mean < 0.2 + LOOSE)
        mean = lines(what, "bristle").mean
        yield Claim("3", f"bristle keeps .90 - .03 under 12 {what} of 22", mean, mean >= 0.90 - LOOSE)


ROWS: Rows = {
    "1": (lambda out: row_1(), claims_1),
    "2": (lambda out: row_2(), claims_2),
    "3": (lambda out: row_3(), claims_3),
}
