"""One handler that is not invoked natively, as a service that the core knows by its messages.

A host attaches like any service, states demand, takes tasks and tells outcomes. How an attempt is
begun and stopped is the business of the kinds of hosts: push, pull, exec.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocol import version
from protocol.messages import (
    Attach,
    Declaration,
    Demand,
    Failure,
    GrantedTask,
    Lease,
    Limit,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Progress,
    Refused,
    Result,
    Revoke,
    Tasks,
    Update,
)
from sidecar.gateway.peer import Owner, Peer
from sidecar.invoke.answers import NOTHING, Ending, Fate, Told, ending
from sidecar.invoke.handlers import Handler

LEASE_LOST_GRACE_MS = 200
"""How long an attempt whose lease is lost has to end: well under the margin of the session."""
GRACE_SHARE = 0.9
"""Of a grace of the core: the host has spoken, and its command is gone, before the core speaks."""
LATER_HEARTBEAT_MS = 60_000
"""After a 202 nothing shows that the service lives but its heartbeats: without them so long."""

_PRESSING = frozenset({"lease-lost", "stopping"})
"""Reasons that leave less time than an attempt that was told to stop before may have."""


class Attempts:
    """All attempts of all hosts, by id and token: who completes one by a request names both."""

    def __init__(self) -> None:
        self._by_lease: dict[tuple[bytes, int], Attempt] = {}

    def __len__(self) -> int:
        return len(self._by_lease)

    def add(self, attempt: "Attempt") -> None:
        """Add one that has begun."""
        self._by_lease[attempt.task[:2]] = attempt

    def remove(self, attempt: "Attempt") -> None:
        """Remove one that has ended."""
        del self._by_lease[attempt.task[:2]]

    def find(self, task_id: bytes, token: int) -> "Attempt | None":
        """Return the attempt that has this lease."""
        return self._by_lease.get((task_id, token))


@dataclass(slots=True)
class House:
    """What all hosts of a sidecar share."""

    service: str
    owner: Owner
    cancel_grace_ms: int
    stop_grace_ms: int
    """How long the core waits for what it stops in the end."""
    note: Callable[[str, dict[str, int | str]], None]
    """Called with an event's name and facts, for the log; never one per task."""
    attempts: Attempts = field(default_factory=Attempts)

    def grace_ms(self, reason: str) -> int:
        """Return how long an attempt has that is told to stop."""
        if reason == "lease-lost":
            return LEASE_LOST_GRACE_MS
        given_ms = self.stop_grace_ms if reason == "stopping" else self.cancel_grace_ms
        return int(given_ms * GRACE_SHARE)


class Attempt:
    """One attempt that has been handed to a host."""

    __slots__ = ("begun", "ended", "heard", "heartbeat_ms", "host", "reason", "task", "work")

    def __init__(self, host: "Host", task: GrantedTask, now: float) -> None:
        self.host = host
        self.task = task
        self.begun = now
        self.heard = now
        """When its service was last heard of."""
        self.heartbeat_ms = host.handler.heartbeat_ms
        """Silence after which it is stopped; 0 for none."""
        self.reason = ""
        """Why it was told to stop: of a REVOKE, or ``stalled``."""
        self.ended = False
        self.work: Any = None
        """What its kind of host keeps of it."""

    @property
    def lease(self) -> Lease:
        """Its name."""
        return Lease(*self.task[:2])

    def settle(self, sign: str, told: Told = NOTHING) -> Fate:
        """Tell what it has come to; return what was made of it."""
        return self.host.settle(self, sign, told)


class Host(Peer):
    """A peer of the core that invokes one handler.

    Args:
        number: Given by the gateway.
        handler: What to invoke, and by which rules.
        house: What it shares with the other hosts.
    """

    def __init__(self, number: int, handler: Handler, house: House) -> None:
        self.number = number
        self.handler = handler
        self.house = house
        self.running: dict[Attempt, None] = {}
        """The attempts that have not ended, also those that were told to stop."""
        self.refused: Refused | None = None
        """Why the core turned this host away."""
        self.closed = False
        self._taken = 0
        self._stated = 0
        self._outcomes: list[Outcome] = []
        self._updates: dict[Attempt, Update] = {}
        self._telling: asyncio.Handle | None = None
        self._watching: asyncio.TimerHandle | None = None

    # --- What the kinds of hosts do ------------------------------------------------------------

    def begin(self, attempt: Attempt) -> None:
        """Begin an attempt."""
        raise NotImplementedError

    def stop(self, attempt: Attempt, grace_ms: int) -> None:
        """Stop an attempt, for its ``reason``, and settle it by when the grace is over."""
        raise NotImplementedError

    def room(self) -> int:
        """Return how many attempts may begin now."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of everything: the host is closed."""

    def learned(self, attempt: Attempt, end: Ending) -> None:
        """Take note of what an attempt has come to."""

    def facts(self) -> str:
        """Return what people may want to know of it."""
        return f"{self.handler.transport}, {len(self.running)} of {self.handler.slots} run"

    # --- Life ----------------------------------------------------------------------------------

    def attach(self) -> None:
        """Declare the handler, and ask for tasks if there is room."""
        name = self.handler.name
        message = Attach(
            version.VERSION_MIN,
            version.VERSION_MAX,
            self.house.service,
            self.handler.transport,
            [Declaration(name, self.handler.policy)],
            [Limit(name, self.handler.slots)],
        )
        self.house.owner.received(self, message)
        self.changed()

    def close(self) -> None:
        """Leave: what has not ended is lost."""
        self.abort()

    def abort(self) -> None:
        """Leave: what has not ended is lost."""
        if self.closed:
            return
        self.closed = True
        for handle in (self._telling, self._watching):
            if handle is not None:
                handle.cancel()
        for attempt in list(self.running):
            self.house.attempts.remove(attempt)
            attempt.ended = True
        self.leave()
        self.running.clear()
        self.house.owner.closed(self)

    # --- From the core -------------------------------------------------------------------------

    def deliver(self, messages: list[Message]) -> None:
        """Take what the core tells."""
        for message in messages:
            if isinstance(message, Tasks):
                for _, tasks in message.groups:
                    self._take(tasks)
            elif isinstance(message, Revoke):
                for task_id, token, reason in message.revoked:
                    attempt = self.house.attempts.find(task_id, token)
                    if attempt is not None and attempt.host is self:
                        self.revoke(attempt, reason)
            elif isinstance(message, Refused):
                self.refused = message
        # RECALL needs no word: what a host has taken has begun.

    def _take(self, tasks: list[GrantedTask]) -> None:
        self._taken += len(tasks)
        now = time.monotonic()
        for task in tasks:
            attempt = Attempt(self, task, now)
            self.running[attempt] = None
            self.house.attempts.add(attempt)
            if attempt.heartbeat_ms:
                self.watch(attempt)
            self.begin(attempt)
        self.changed()

    def revoke(self, attempt: Attempt, reason: str) -> None:
        """Stop an attempt; a second reason counts only if it leaves less time."""
        if not attempt.reason or reason in _PRESSING:
            attempt.reason = reason
            self.stop(attempt, self.house.grace_ms(reason))

    # --- To the core ---------------------------------------------------------------------------

    def fate_of(self, sign: str, told: Told) -> Fate:
        """Return what would be made of a sign."""
        return ending(sign, told, self.handler.status_map).fate

    def settle(self, attempt: Attempt, sign: str, told: Told = NOTHING) -> Fate:
        """Tell what an attempt has come to; after its end this does nothing."""
        end = ending(sign, told, self.handler.status_map)
        if attempt.ended:
            return end.fate
        if end.fate is Fate.LATER:
            attempt.heartbeat_ms = attempt.heartbeat_ms or LATER_HEARTBEAT_MS
            self.watch(attempt)
            return end.fate
        self._end(attempt, end.kind, end.value)
        self.learned(attempt, end)
        return end.fate

    def give_back(self, attempt: Attempt) -> None:
        """Give an attempt back that has not begun."""
        self._end(attempt, OutcomeKind.RETURNED, None)

    def _end(self, attempt: Attempt, kind: OutcomeKind, value: Result | Failure | None) -> None:
        attempt.ended = True
        del self.running[attempt]
        self.house.attempts.remove(attempt)
        run_us = max(1, int(1e6 * (time.monotonic() - attempt.begun)))
        if kind is OutcomeKind.RETURNED:
            run_us = 0
        self._outcomes.append(Outcome(*attempt.task[:2], kind, run_us, value))
        self.changed()

    def progress(self, attempt: Attempt, update: Update | None) -> None:
        """Take a sign of life of an attempt, and what it tells."""
        attempt.heard = time.monotonic()
        if update is not None and not attempt.ended:
            self._updates[attempt] = _merged(self._updates.get(attempt), update)
            self.changed()

    def changed(self) -> None:
        """Have the core told at the end of this turn."""
        if self._telling is None and not self.closed:
            self._telling = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        owner = self.house.owner
        if self._updates:
            updates, self._updates = self._updates, {}
            owner.received(self, Progress(list(updates.values())))
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            owner.received(self, Outcomes(0, outcomes))
        total = self._taken + max(0, self.room())
        if total != self._stated:
            self._stated = total
            owner.received(self, Demand([Limit(self.handler.name, total)]))
        owner.turned()

    # --- Silence -------------------------------------------------------------------------------

    def watch(self, attempt: Attempt) -> None:
        """Look after an attempt that must be heard of."""
        if self._watching is None and not self.closed:
            self._watching = asyncio.get_running_loop().call_later(
                attempt.heartbeat_ms / 1000, self._look
            )

    def _look(self) -> None:
        self._watching = None
        now = time.monotonic()
        nearest = None
        for attempt in list(self.running):
            if not attempt.heartbeat_ms or attempt.reason:
                continue
            left = attempt.heard + attempt.heartbeat_ms / 1000 - now
            if left <= 0:
                self.revoke(attempt, "stalled")
            elif nearest is None or left < nearest:
                nearest = left
        if nearest is not None:
            self._watching = asyncio.get_running_loop().call_later(nearest, self._look)


def _merged(old: Update | None, new: Update) -> Update:
    """Return both updates in one: what the new one does not tell holds from the old one."""
    if old is None:
        return new
    return Update(
        new.id,
        new.token,
        old.permille if new.permille < 0 else new.permille,
        new.note or old.note,
        old.checkpoint if new.checkpoint is None else new.checkpoint,
    )
