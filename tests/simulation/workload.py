"""What apps submit and how handlers behave: drawn from the seed, told by the payload.

A payload names a behaviour, so that whoever runs the task knows what it shall come to, and the
checks can tell one content from another under the same id.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from protocol.messages import Submission
from tests.simulation.world import MS, World

QUICK, SLOW, ROUGH, NARROW, LATER = (
    "svc.quick",
    "svc.slow",
    "svc.rough",
    "svc.narrow",
    "svc.later",
)
"""LATER is served only once the faults have stopped."""
HANDLERS = (QUICK, SLOW, ROUGH, NARROW, LATER)

BEHAVIOURS: dict[str, tuple[tuple[str, int], ...]] = {
    QUICK: (("ok", 20), ("retry", 2), ("defer", 1), ("fatal", 1)),
    SLOW: (("long", 8), ("ok", 4), ("over", 2), ("hang", 2), ("retry", 1)),
    ROUGH: (
        *(("ok", 6), ("retry", 3), ("always", 2), ("defer", 2), ("notnow", 1)),
        *(("fatal", 2), ("poison", 1), ("crashonce", 2), ("hang", 2)),
    ),
    NARROW: (("ok", 6), ("long", 3), ("retry", 1)),
    LATER: (("ok", 3), ("long", 1)),
}
"""How often each behaviour is drawn.

ok, long: succeed soon, or after a while. retry: fail the first times. always: fail every time.
defer: not now, the first times; notnow: every time. fatal. poison: the process dies, every time;
crashonce: the first time. over: runs beyond its timeout. hang: beyond it, deaf to REVOKE.
"""
COLLECTIONS = ("red", "blue")
FILLER = (0, 0, 0, 20, 90, 200)
"""Bytes added to payloads; some are then stored apart."""


class Entry(NamedTuple):
    """One task as an app wants it."""

    id: bytes
    handler: str
    payload: bytes
    options: dict[str, Any] | None

    def submission(self) -> Submission:
        """Return it as a record."""
        return Submission(self.id, self.handler, self.payload, None, self.options)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed for one run."""

    policies: dict[str, dict[str, int]]
    slots: dict[str, int]
    batches: int
    """Batches that apps submit in all."""
    batch_max: int
    every_us: int
    """Between two batches, on average."""
    expiring: float
    """Share of tasks that expire."""
    wall_jumps: bool
    collected: float
    """Share of tasks that are in a collection."""
    alike: float
    """Share of batches whose tasks wait in one queue: their index rows stand for several."""


def a_plan(world: World, steps: int) -> Plan:
    """Draw a plan."""
    rng = world.rng
    common = {
        "attempts_max": rng.randint(2, 5),
        "backoff_ms_min": rng.choice((0, 20, 200)),
        "backoff_ms_max": rng.choice((500, 2_000)),
        "crashes_max": rng.choice((2, 3)),
        "deferrals_max": rng.choice((2, 4)),
        "timeout_ms": rng.choice((400, 1_500)),
        "concurrency": 0,
    }
    policies = {handler: dict(common) for handler in HANDLERS}
    policies[NARROW]["concurrency"] = rng.choice((1, 2, 3))
    if rng.random() < 0.3:
        policies[QUICK]["concurrency"] = 4
    return Plan(
        policies=policies,
        slots={handler: rng.randint(1, 4) for handler in HANDLERS},
        batches=max(1, int(steps * (0.5 + rng.random()))),
        batch_max=rng.choice((1, 4, 10)),
        every_us=rng.choice((20, 100, 250)) * MS,
        expiring=rng.choice((0.05, 0.3)),
        wall_jumps=rng.random() < 0.3,
        collected=rng.choice((0.05, 0.5)),
        alike=rng.choice((0.0, 0.5)),
    )


class Source:
    """Makes tasks."""

    def __init__(self, world: World, plan: Plan, wall_ms: int) -> None:
        self._world = world
        self._plan = plan
        self._number = 0
        self._ms = wall_ms
        self._weights = [world.rng.choice((1, 2, 6)) for _ in HANDLERS[:-1]]
        self._weights.append(world.rng.choice((1, 20)))

    def batch(self) -> list[Entry]:
        """Return tasks for one batch."""
        count = self._world.rng.randint(1, self._plan.batch_max)
        entries = [self._entry() for _ in range(count)]
        if self._world.rng.random() < self._plan.alike:
            handler = self._world.rng.choices(HANDLERS, self._weights)[0]
            entries = [self._alike(handler, entry) for entry in entries]
        return entries

    def _alike(self, handler: str, entry: Entry) -> Entry:
        names, weights = zip(*BEHAVIOURS[handler], strict=True)
        behaviour = self._world.rng.choices(names, weights)[0]
        payload = b"%s %s" % (behaviour.encode(), entry.payload.partition(b" ")[2])
        options = {k: v for k, v in (entry.options or {}).items() if k != "priority"}
        return entry._replace(handler=handler, payload=payload, options=options or None)

    def _entry(self) -> Entry:
        rng = self._world.rng
        handler = rng.choices(HANDLERS, self._weights)[0]
        names, weights = zip(*BEHAVIOURS[handler], strict=True)
        behaviour = rng.choices(names, weights)[0]
        self._number += 1
        payload = b"%s %d %s" % (behaviour.encode(), self._number, b"." * rng.choice(FILLER))
        return Entry(self._id(), handler, payload, self._options(handler))

    def _id(self) -> bytes:
        value = self._ms << 80 | 0x7 << 76 | 0b10 << 62 | self._number
        return value.to_bytes(16, "big")

    def _options(self, handler: str) -> dict[str, Any] | None:
        rng = self._world.rng
        options: dict[str, Any] = {}
        if rng.random() < 0.25:
            options["delay_ms"] = self._world.between(0, 8_000)
        if rng.random() < self._plan.expiring or (handler == LATER and rng.random() < 0.7):
            options["expires_ms"] = self._world.between(1, rng.choice((300, 4_000)))
        if rng.random() < 0.4:
            options["priority"] = rng.randrange(4)
        if rng.random() < 0.05:
            options["attempts_max"] = rng.randint(1, 3)
        if rng.random() < self._plan.collected:
            options["collection"] = rng.choice(COLLECTIONS)
        if rng.random() < 0.05:
            options["timeout_ms"] = 100
        return options or None

    def other_content(self, entry: Entry) -> Entry:
        """Return another task under the same id."""
        return entry._replace(payload=b"ok 0 other than " + entry.payload[:20])
