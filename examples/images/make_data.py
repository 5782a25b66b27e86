"""Write three sites' folders of images, a sub-folder for each class, and one to test on: scikit-learn's digits as PNG.

No site has all ten digits, and the third one's scanner makes larger images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SITES = {"site-0": (0, 1, 2, 3, 4), "site-1": (3, 4, 5, 6, 7), "site-2": (6, 7, 8, 9, 0)}
SIDE = {"site-2": 16}
"""In pixels; elsewhere 8, as they are."""
TEST = 500
FOLDER = Path("data")


def main() -> None:
    """Write data/site-0/0/0007.png and so on; each image goes to one site only, or to data/test."""
    digits = load_digits()
    pixels = (digits.images * 15).astype(np.uint8)  # (1797, 8, 8), 0 … 240
    order = np.random.default_rng(0).permutation(len(pixels))
    written = dict.fromkeys((*SITES, "test"), 0)
    for place, number in enumerate(order.tolist()):
        label = int(digits.target[number])
        holders = [site for site, labels in SITES.items() if label in labels]
        site = "test" if place < TEST else holders[place % len(holders)]
        path = FOLDER / site / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = SIDE.get(site, 8)
        Image.fromarray(pixels[number]).resize((side, side), Image.Resampling.NEAREST).save(path)
        written[site] += 1
    print(", ".join(f"{FOLDER / site}: {count} images" for site, count in written.items()))


if __name__ == "__main__":
    main()
