"""Deadlines of leases are counted on the clock that goes on while a host sleeps."""

import time
from collections.abc import Callable

import pytest

import coordinator.runtime
import sidecar.runtime
from sidecar.sdk import validity

AWAKE_MS = 5_000
ASLEEP_MS = 60_000


@pytest.mark.parametrize(
    "read_ms",
    [lambda: coordinator.runtime.now().ms, sidecar.runtime.now_ms, validity.boottime_ms],
    ids=["coordinator", "sidecar", "service"],
)
def test_clock_goes_on_while_the_host_sleeps(
    read_ms: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks_ms = {time.CLOCK_MONOTONIC: AWAKE_MS, time.CLOCK_BOOTTIME: AWAKE_MS + ASLEEP_MS}
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: clocks_ms[clock] * 1_000_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: AWAKE_MS * 1_000_000)
    monkeypatch.setattr(time, "monotonic", lambda: AWAKE_MS / 1_000)

    assert read_ms() == AWAKE_MS + ASLEEP_MS
