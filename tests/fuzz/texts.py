"""Make HTTP that is nearly right from HTTP that is, and tell what went wrong with it.

Requests and answers are changed in the same ways: bits, pieces put in, put over and taken out,
repetitions, and the end of another text.
"""

import random
import resource
import traceback
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """What texts are made from."""

    templates: Sequence[bytes]
    pieces: Sequence[bytes]
    bombs: Sequence[bytes]
    """Long pieces, put in rarely."""
    calm_share: float
    """Texts that stay as they are."""
    bomb_share: float
    """Texts that get a bomb."""
    filler: bytes
    """What a text becomes of which nothing is left."""

    def make(self, rng: random.Random) -> bytes:
        """Return a text."""
        data = bytearray(rng.choice(self.templates))
        chance = rng.random()
        if chance < self.calm_share:
            return bytes(data)
        for _ in range(rng.randint(1, 2)):
            data = self._changed(rng, data) or bytearray(self.filler)
        if chance < self.calm_share + self.bomb_share:
            place = rng.randrange(len(data))
            data[place:place] = rng.choice(self.bombs)
        return bytes(data)

    def _changed(self, rng: random.Random, data: bytearray) -> bytearray:
        place = rng.randrange(len(data) + 1)
        end = min(len(data), place + rng.randint(1, 12))
        match rng.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place:place] = rng.choice(self.pieces)
            case 2:
                data[place:end] = rng.choice(self.pieces)
            case 3:
                del data[place:end]
            case 4:
                data[place:place] = data[place:end] * rng.randint(1, 20)
            case _:
                other = rng.choice(self.templates)
                data = data[:place] + other[rng.randrange(len(other)) :]
        return data


def told(error: Exception) -> str:
    """Return what an error was, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def peak_bytes() -> int:
    """Return how much memory this process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
