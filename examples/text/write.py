"""Let a finished model go on with a text:  python write.py HOME "the old"."""

from __future__ import annotations

import sys

import torch
from data import LETTERS, WINDOW

import gossip


def main(home: str, text: str, letters: int = 120) -> None:
    """Print the text with what the model draws behind it."""
    model = gossip.load(home)
    draw = torch.Generator().manual_seed(0)
    tokens = [LETTERS.index(letter) for letter in text]
    for _ in range(letters):
        with torch.no_grad():
            logits = model.module(torch.tensor([tokens[-WINDOW:]]))[0, -1]
        tokens.append(int(torch.multinomial(logits.softmax(0), 1, generator=draw)))
    print("".join(LETTERS[token] for token in tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
