"""Small windows, rows and pages, so that some hundred tasks are enough to spill everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coordinator.core import (
    bulk_changes,
    calendar,
    dropping,
    granting,
    layout,
    ledger,
    listing,
    ready_queue,
    recovery,
    submissions,
    sweeping,
    timers,
)
from sidecar.core import link
from tests.simulation.world import World


@contextmanager
def small(world: World) -> Iterator[None]:
    """Make the bounds of the cores small, as the seed decides, for the time of one run."""
    rng = world.rng
    entries = rng.choice((2, 5, 16))
    window = rng.choice((4, 16, 64))
    changes: list[tuple[Any, str, int]] = [
        (layout, "ROW_ENTRIES_MAX", entries),
        (ready_queue, "ROW_ENTRIES_MAX", entries),
        (timers, "ROW_ENTRIES_MAX", entries),
        (ready_queue, "WINDOW_MAX", window),
        (ready_queue, "WINDOW_LOW", max(1, window // 4)),
        (ready_queue, "SLACK", 4),
        (granting, "LOAD_ROWS", rng.choice((1, 3))),
        (granting, "HELD_LEASES_MAX", rng.choice((3, 1_000))),
        (ledger, "LIVE_MAX", rng.choice((window // 2, 4 * window, 10_000))),
        (sweeping, "GONE_MIN", rng.choice((1, 10))),
        (sweeping, "ROWS", rng.choice((1, 4))),
        (timers, "WINDOW_MAX", rng.choice((8, 40, 1_000))),
        (timers, "WINDOW_LOW", rng.choice((1, 4))),
        (timers, "LOAD_ROWS", rng.choice((1, 3))),
        (calendar, "DUE_MAX", rng.choice((3, 100))),
        (calendar, "REMOVE_ROWS", rng.choice((1, 4))),
        (recovery, "PAGE", rng.choice((2, 50))),
        (submissions, "INLINE_BYTES_MAX", 64),
        (link, "PATIENCE_MS_MIN", rng.choice((700, 5_000))),
        (link, "BACKOFF_MS_MIN", rng.choice((100, 500))),
        (submissions, "CHECKING_BYTES_MAX", rng.choice((4_000, 2**26))),
        (granting, "REGATED_MAX", rng.choice((1, 3, 1_024))),
        (dropping, "ROWS", rng.choice((1, 4))),
        (bulk_changes, "SLICE_TASKS", rng.choice((2, 250))),
        (bulk_changes, "SLICE_SCANNED", rng.choice((3, 1_024))),
        (bulk_changes, "WRITE_SLICES", rng.choice((1, 16))),
        (bulk_changes, "KEPT", rng.choice((4, 100))),
        (listing, "CHUNK", rng.choice((2, 256))),
        (listing, "ROWS", rng.choice((1, 4))),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
