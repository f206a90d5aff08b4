"""Drives the core with a spool: a store in memory whose commits end when the test says so."""

from typing import Any

from protocol import messages as m
from protocol.submission import decode_batch, encode_batch
from sidecar.core import events as e
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from tests.sidecar.core.driver import APP, Driver
from tests.support.builders import a_submission, task_id

SPOOL_AFTER_MS = 1_000


class Store:
    """What a shell's store keeps, over any number of drivers."""

    def __init__(self) -> None:
        self.batches: dict[int, tuple[int, bytes]] = {}
        """When each was spooled, and its bytes."""
        self.outcomes: dict[m.Lease, m.Outcome] = {}
        self.damaged: set[int] = set()
        self.last_number = 0
        self.loads = 0

    def contents(self) -> e.SpoolContents:
        size = sum(len(tasks) for _, tasks in self.batches.values())
        outcomes = tuple(self.outcomes.values())
        return e.SpoolContents(len(self.batches), size, self.last_number, outcomes)

    def apply(self, now_ms: int, work: e.SpoolWork) -> list[e.SpooledBatch]:
        for number, tasks in work.puts:
            assert number > self.last_number, "numbers grow"
            self.last_number = number
            self.batches[number] = (now_ms, tasks)
        for outcome in work.outcome_puts:
            key = m.Lease(outcome[0], outcome[1])
            assert work.reopen or key not in self.outcomes, "an outcome is journaled once"
            self.outcomes[key] = outcome
        for number in work.removes:
            assert work.reopen or number in self.batches, "a batch is removed once"
            self.batches.pop(number, None)
        for lease in work.outcome_removes:
            assert work.reopen or m.Lease(*lease) in self.outcomes, "forgotten once"
            self.outcomes.pop(m.Lease(*lease), None)
        if work.load_after is None:
            return []
        self.loads += 1
        loaded: list[e.SpooledBatch] = []
        size = 0
        for number in sorted(self.batches):
            if number > work.load_after and size < work.load_bytes_max:
                spooled_ms, tasks = self.batches[number]
                damaged = number in self.damaged
                loaded.append(e.SpooledBatch(number, tasks, now_ms - spooled_ms, damaged))
                size += len(tasks)
        return loaded


class SpoolDriver(Driver):
    """A core with a spool.

    Args:
        store: What it finds; a fresh one without it.
        terms: See ``Terms``.
    """

    def __init__(self, store: Store | None = None, **terms: Any) -> None:
        super().__init__(**terms)
        self.store = store or Store()
        self.core = Sidecar(
            Identity("host-1", b"i" * 16, "email", "0.1.0"),
            Terms(**terms),
            self.store.contents(),
        )
        self.work: e.SpoolWork | None = None
        self.commits_at_once = False

    def took(self, effects: e.Effects) -> None:
        if effects.spool is not None:
            assert self.work is None, "one work at a time"
            assert effects.spool, "empty work"
            self.work = effects.spool
        if self.commits_at_once:
            self.commit()

    def commit(self) -> None:
        """Let the store do all that it was given, and what follows from that."""
        while self.work is not None:
            self.commit_one()

    def commit_one(self) -> None:
        """Let the store do the work that it was given first."""
        work, self.work = self.work, None
        assert work is not None
        self.step(e.SpoolDone(self.store.apply(self.now_ms, work)))

    def fail(self, *, after_commit: bool = False) -> None:
        """Let the store fail: what it was given took place, or not."""
        assert self.work is not None
        work, self.work = self.work, None
        if after_commit:
            self.store.apply(self.now_ms, work)
        self.step(e.SpoolFailed("no space left on device"))

    def open(self, **changes: Any) -> None:
        """Open a session; what is sent at once can be looked at."""
        self.step(e.LinkUp())
        self.welcome(**changes)

    def submit(self, *numbers: int, app: int = APP, request: int = 0, **changes: Any) -> None:
        """Submit a batch of these tasks that may be spooled; its request is the first number."""
        tasks = [a_submission(number, **changes) for number in numbers]
        self.submit_bytes(encode_batch(tasks), app, request or numbers[0])

    def submit_bytes(self, tasks: bytes, app: int = APP, request: int = 1) -> None:
        self.local(app, m.Submit([m.Batch(request, tasks, True)]))

    def insist(self, *numbers: int, app: int = APP) -> None:
        """Submit a batch that may not be spooled."""
        tasks = encode_batch([a_submission(number) for number in numbers])
        self.local(app, m.Submit([m.Batch(numbers[0], tasks, False)]))

    def verdicts(self, app: int = APP) -> list[tuple[int, str | None]]:
        """Return, and forget, the requests answered to an app, with their codes."""
        return [(v.request, v.code) for x in self.told(m.Accepted, app) for v in x.verdicts]

    def sent(self) -> list[tuple[int, list[int]]]:
        """Return, and forget, the batches that were sent: request, and numbers of the tasks."""
        return [
            (batch.request, numbers_in(batch.tasks))
            for message in self.said(m.Submit)
            for batch in message.batches
        ]

    def accept(self, *requests: int, code: str | None = None, **changes: Any) -> None:
        values: dict[str, Any] = {"detail": "", "retry_after_ms": 0, "rejections": []}
        verdicts = [m.Verdict(request, code, **values | changes) for request in requests]
        self.coordinator(m.Accepted(verdicts))


def numbers_in(tasks: bytes) -> list[int]:
    """Return the numbers of a batch's tasks, as ``builders.task_id`` takes them."""
    first = int.from_bytes(task_id(0), "big")
    return [int.from_bytes(raw[0], "big") - first for raw in decode_batch(tasks)]


def away(store: Store | None = None, **terms: Any) -> SpoolDriver:
    """Return a driver with an app and no coordinator."""
    driver = SpoolDriver(store, **terms)
    driver.attach(APP)
    driver.forget()
    return driver


def spooled(*numbers: int, **terms: int) -> SpoolDriver:
    """Return a driver without a coordinator, and batches of one task each in its spool."""
    driver = away(None, **terms)
    driver.commits_at_once = True
    for number in numbers:
        driver.submit(number)
    driver.advance(SPOOL_AFTER_MS)
    assert driver.verdicts() == [(number, "spooled") for number in numbers]
    driver.forget()
    return driver
