"""Write the hourly measurements of three sensors, of unequal length, and of one that comes later: made up here.

Each has a daily and a weekly course, disturbances that fade over some hours, noise, a level and amplitude of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HOURS = {"sensor-0": 1400, "sensor-1": 800, "sensor-2": 400, "new": 600}
FOLDER = Path("data")


def course(hours: int, draw: np.random.Generator) -> np.ndarray:
    """Return (hours,) degrees."""
    hour = np.arange(hours) + draw.integers(0, 7 * 24)
    level, amplitude = draw.normal(20, 2), draw.uniform(4, 8)
    values = level + amplitude * np.sin(2 * np.pi * hour / 24) + 2 * np.sin(2 * np.pi * hour / (7 * 24))
    disturbance = 0.0
    for place, push in enumerate(draw.normal(0, 0.7, hours)):
        disturbance = 0.8 * disturbance + push
        values[place] += disturbance
    return values + draw.normal(0, 0.2, hours)


def main() -> None:
    """Write data/sensor-0.csv and so on: a number in each line."""
    FOLDER.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for name, hours in HOURS.items():
        np.savetxt(FOLDER / f"{name}.csv", course(hours, draw), fmt="%.2f")
    print(", ".join(f"{FOLDER / name}.csv: {hours} hours" for name, hours in HOURS.items()))


if __name__ == "__main__":
    main()
