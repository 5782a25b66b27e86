"""Write three texts, each about a place of its own, and one about all: sentences drawn from a small grammar."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PLACES = {
    "harbour": ("sailor boat gull crane", "anchor rope lantern net", "by the pier|in the fog|at high tide"),
    "kitchen": ("cook cat kettle guest", "spoon loaf apron bowl", "near the oven|after supper|on the table"),
    "garden": (
        "gardener bee snail child",
        "rake tulip basket fence",
        "under the tree|before rain|along the path",
    ),
}
ADJECTIVES = ("old", "small", "quiet", "green", "tired", "bright")
VERBS = ("sees", "wants", "keeps", "hides", "carries", "forgets")
SENTENCES = {"harbour": 900, "kitchen": 600, "garden": 300}
TEST = 50
FOLDER = Path("data")


def sentence(place: str, draw: np.random.Generator) -> str:
    """Return e.g. ``the old sailor hides a rope by the pier.``"""
    who, what, where = PLACES[place]
    subject, thing = draw.choice(who.split()), draw.choice(what.split())
    if draw.random() < 0.5:
        subject = f"{draw.choice(ADJECTIVES)} {subject}"
    words = f"the {subject} {draw.choice(VERBS)} the {thing}"
    return f"{words} {draw.choice(where.split('|'))}." if draw.random() < 0.7 else f"{words}."


def main() -> None:
    """Write data/site-0.txt to site-2.txt and test.txt."""
    FOLDER.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for site, (place, count) in enumerate(SENTENCES.items()):
        text = " ".join(sentence(place, draw) for _ in range(count))
        (FOLDER / f"site-{site}.txt").write_text(text + "\n", encoding="utf-8")
        print(f"{FOLDER}/site-{site}.txt, {place}: {text[:60]} …")
    text = " ".join(sentence(place, draw) for _ in range(TEST) for place in PLACES)
    (FOLDER / "test.txt").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
