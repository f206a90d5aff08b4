"""Decide how long a failed task waits before its next attempt.

Exponential backoff with full jitter: the wait is drawn between nothing and a bound that triples
with every attempt (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015). Nothing here draws a
random number: the caller gives the jitter, so that one input has one answer.
"""

from zlib import crc32

GROWTH = 3
STEPS_MAX = 40
"""Beyond this many steps the bound is at its maximum for any policy; keeps the integers small."""


def backoff_ms(attempt: int, *, ms_min: int, ms_max: int, jitter: float) -> int:
    """Return the wait after an attempt, in milliseconds.

    Args:
        attempt: The charged attempt that has just failed, from 1.
        ms_min: Bound of the first wait.
        ms_max: Bound that no wait exceeds.
        jitter: Share of the bound to wait, from 0.0 up to but not including 1.0.
    """
    bound = min(ms_min * GROWTH ** min(attempt - 1, STEPS_MAX), ms_max)
    return int(bound * jitter)


def jitter_of(task_id: bytes, token: int) -> float:
    """Return the jitter of one attempt: even over tasks and attempts, the same every time.

    A task id holds at least 62 random bits, so that a checksum of it spreads a crowd of tasks as
    well as a random number would, and a replay of the core needs no seed.
    """
    return crc32(token.to_bytes(8, "big"), crc32(task_id)) / 2**32
