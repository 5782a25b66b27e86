"""Write three hospitals' tables, unequal in size and in what they hold, and one that none of them has.

The rows are scikit-learn's breast cancer data (Wisconsin, 1995), of which ten columns are used.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

SITES = {"site-0": (200, 50), "site-1": (60, 70), "site-2": (12, 28)}
"""So many benign and malignant rows each; what is left is test.csv."""
FOLDER = Path("data")


def main() -> None:
    """Write data/site-0.csv, site-1.csv, site-2.csv and test.csv."""
    cancer = load_breast_cancer()
    means = [number for number, name in enumerate(cancer.feature_names) if name.startswith("mean ")]
    names = [cancer.feature_names[number].removeprefix("mean ").replace(" ", "_") for number in means]
    draw = np.random.default_rng(0)
    kinds = ("benign", "malignant")
    left = {
        name: draw.permutation(np.flatnonzero(cancer.target_names[cancer.target] == name)) for name in kinds
    }
    FOLDER.mkdir(exist_ok=True)
    for site, counts in {**SITES, "test": (None, None)}.items():
        rows = [(name, row) for name, count in zip(kinds, counts, strict=True) for row in left[name][:count]]
        left = {name: left[name][count:] for name, count in zip(kinds, counts, strict=True)}
        with (FOLDER / f"{site}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*names, "diagnosis"])
            writer.writerows([*cancer.data[row, means].tolist(), name] for name, row in rows)
        print(f"{FOLDER / site}.csv: {len(rows)} rows")


if __name__ == "__main__":
    main()
