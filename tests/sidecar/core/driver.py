"""Drives the sidecar's core by hand: a manual clock, and short words for what the peers say."""

from typing import Any, TypeVar

from protocol import messages as m
from sidecar.core import events as e
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Identity, Terms
from tests.support.builders import a_granted_task, an_attach

HANDLER = "email.send"
STORE = b"s" * 16
TIMEOUT_MS = 10_000
DEADLINE_MS = 9_000
"""When leases are void, counted from the last heartbeat that was answered."""
HEARTBEAT_MS = 2_000
SERVICE, APP = 1, 2

T = TypeVar("T")


class Driver:
    """One core, its clock, and what it has asked to be sent since the last look."""

    def __init__(self, **terms: Any) -> None:
        self.now_ms = 1_000
        self.core = Sidecar(Identity("host-1", b"i" * 16, "email", "0.1.0"), Terms(**terms))
        self.session = 0
        self.grant_number = 0
        self.to_coordinator: list[m.Message] = []
        self.to_local: list[tuple[int, m.Message]] = []
        self.closed: list[int] = []
        self.notes: list[e.Note] = []
        self.of_processes: list[e.OfProcess] = []
        self.reconnects = 0
        self._stopped = False

    def stopped(self) -> bool:
        return self._stopped

    # --- Time ----------------------------------------------------------------------------------

    def flush(self) -> None:
        effects = self.core.flush(self.now_ms)
        self.to_coordinator += effects.to_coordinator
        self.to_local += effects.to_local
        self.closed += effects.close
        self.notes += effects.notes
        self.of_processes += effects.processes
        self.reconnects += effects.reconnect
        self._stopped = self._stopped or effects.stopped
        self.took(effects)

    def took(self, effects: e.Effects) -> None:
        """Look at what a flush has returned; for drivers that do more."""

    def step(self, event: e.Event) -> None:
        self.core.step(self.now_ms, event)
        self.flush()

    def advance(self, ms: int) -> None:
        """Let time pass as the shell does: with a flush whenever the core says it is due."""
        end_ms = self.now_ms + ms
        while (due_ms := self.core.next_due_ms()) is not None and due_ms <= end_ms:
            assert due_ms > self.now_ms, "the core asks to be called again at once"
            self.now_ms = due_ms
            self.flush()
        self.now_ms = end_ms

    def jump(self, ms: int) -> None:
        """Let time pass without the core being called: a paused process."""
        self.now_ms += ms

    # --- The coordinator -----------------------------------------------------------------------

    def coordinator(self, message: m.Message) -> None:
        self.step(e.FromCoordinator(message))

    def welcome(self, **changes: Any) -> None:
        self.session += 1
        self.grant_number = 0
        values: dict[str, Any] = {
            "version": 1,
            "session": self.session,
            "resumed": False,
            "epoch": 1,
            "store": STORE,
            "timeout_ms": TIMEOUT_MS,
            "lost": [],
            "software": "0.1.0",
        }
        self.coordinator(m.Welcome(**values | changes))

    def open(self, **changes: Any) -> None:
        self.step(e.LinkUp())
        self.welcome(**changes)
        self.forget()

    def grant(self, *tasks: m.GrantedTask, handler: str = HANDLER) -> None:
        self.grant_number += 1
        groups = [m.Group(handler, list(tasks))]
        self.coordinator(m.Grant(self.session, self.grant_number, groups))

    def beat(self, clock_ms: int | None = None, *, grant_number: int | None = None) -> None:
        number = self.grant_number if grant_number is None else grant_number
        self.coordinator(m.Beat(self.session, clock_ms or self.now_ms, number))

    def keep_alive(self, ms: int) -> None:
        """Let time pass with every heartbeat answered at once."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.advance(min(HEARTBEAT_MS, end_ms - self.now_ms))
            self.beat()

    # --- Services and apps ---------------------------------------------------------------------

    def local(self, connection: int, message: m.Message) -> None:
        self.step(e.FromLocal(connection, message))

    def attach(self, connection: int = APP, **changes: Any) -> None:
        self.step(e.LocalOpened(connection))
        self.local(connection, an_attach(**changes))

    def serve(
        self,
        connection: int = SERVICE,
        *,
        slots: int = 1,
        total: int | None = None,
        handler: str = HANDLER,
        policy: dict[str, int] | None = None,
    ) -> None:
        """Attach a service and state its demand."""
        self.attach(
            connection,
            service="email",
            declarations=[m.Declaration(handler, policy or {})],
            slots=[m.Limit(handler, slots)],
        )
        self.demand(slots if total is None else total, connection, handler)

    def demand(self, total: int, connection: int = SERVICE, handler: str = HANDLER) -> None:
        self.local(connection, m.Demand([m.Limit(handler, total)]))

    def tell(self, *outcomes: m.Outcome, connection: int = SERVICE) -> None:
        self.local(connection, m.Outcomes(0, list(outcomes)))

    def close(self, connection: int) -> None:
        self.step(e.LocalClosed(connection))

    # --- What was sent -------------------------------------------------------------------------

    def forget(self) -> None:
        self.to_coordinator.clear()
        self.to_local.clear()
        self.closed.clear()
        self.notes.clear()

    def said(self, kind: type[T]) -> list[T]:
        """Return, and forget, the messages of one kind that went to the coordinator."""
        found: list[T] = [x for x in self.to_coordinator if isinstance(x, kind)]
        self.to_coordinator = [x for x in self.to_coordinator if not isinstance(x, kind)]
        return found

    def told(self, kind: type[T], connection: int | None = None) -> list[T]:
        """Return, and forget, the messages of one kind that went to local connections."""
        found: list[T] = []
        rest = []
        for to, message in self.to_local:
            if isinstance(message, kind) and connection in (None, to):
                found.append(message)
            else:
                rest.append((to, message))
        self.to_local = rest
        return found

    def outcomes(self) -> list[m.Outcome]:
        """Return, and forget, the outcomes that went to the coordinator."""
        return [outcome for message in self.said(m.Outcomes) for outcome in message.outcomes]

    def handed(self, connection: int | None = None) -> list[bytes]:
        """Return, and forget, the ids of tasks handed to services."""
        given = self.told(m.Tasks, connection)
        return [task.id for message in given for group in message.groups for task in group.tasks]

    def revoked(self) -> list[m.Revoked]:
        return [one for message in self.told(m.Revoke) for one in message.revoked]

    def facts(self) -> dict[str, int | str]:
        return self.core.facts(self.now_ms)


def running(*numbers: int, slots: int = 1, **changes: Any) -> Driver:
    """Return a driver with an open session, a service, and these tasks handed to it."""
    driver = Driver()
    driver.open()
    driver.serve(slots=slots, total=max(slots, len(numbers)))
    if numbers:
        driver.grant(*[a_granted_task(n, **changes) for n in numbers])
    driver.forget()
    return driver
