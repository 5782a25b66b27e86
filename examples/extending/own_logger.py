"""A logger: the best accuracy of each peer so far, in a file that `watch cat best.txt` shows."""

from pydantic import Field

import gossip


class Best(gossip.Logger):
    """[logger] kind = "python:own_logger.py:Best"."""

    class Settings(gossip.Settings):
        digits: int = Field(4, ge=1, le=9, description="decimal places")

    def begin(self, round):
        self.best = {}

    def log(self, entry):
        peer, accuracy = entry["peer"], entry["accuracy"]
        if accuracy > self.best.get(peer, (-1.0, 0))[0]:
            self.best[peer] = (accuracy, entry["round"])
            places = self.settings.digits
            lines = [
                f"{peer} {best:.{places}f} in round {round}" for peer, (best, round) in self.best.items()
            ]
            (self.folder / "best.txt").write_text("\n".join(lines) + "\n")
