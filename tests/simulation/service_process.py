"""One process of a service: it runs attempts as the protocol asks, or nearly so.

It keeps the rules of hop L (order, slots, the outcome before the slot), since the protocol allows
no others; but its handlers crash, hang and ignore what they are told, and it may say things twice.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.messages import (
    Attach,
    Attached,
    Declaration,
    Demand,
    Failure,
    Goodbye,
    GrantedTask,
    Lease,
    Limit,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Recall,
    Refused,
    Result,
    Revoke,
    Tasks,
    Validity,
)
from tests.simulation.process import Process
from tests.simulation.sidecar_process import SERVICE
from tests.simulation.stream import Stream
from tests.simulation.world import MS, SECOND, Alarm, Broken, Clock, World

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.sidecar_process import SidecarProcess

LATE_US = 2 * MS
"""How much later than it knows its leases to be over a service may notice."""
STOPS_US_MAX = 180 * MS
"""How long an attempt takes that heeds that it is told to stop: less than any grace or margin."""
Key = tuple[bytes, int]
_TIMEOUT = Failure("timeout", "it ran too long")


class Attempt:
    """One execution, from its true begin to its true end."""

    __slots__ = (
        *("began_us", "deaf", "handler", "key"),
        *("service", "sidecar", "silent_us", "told"),
    )

    def __init__(
        self, service: "ServiceProcess", sidecar: "SidecarProcess", handler: str, key: Key
    ) -> None:
        self.service = service
        self.sidecar = sidecar
        self.handler = handler
        self.key = key
        self.began_us = service.world.now
        self.deaf = False
        """It ignores that it is told to stop."""
        self.silent_us = 0
        """When the sidecar gives it up at the latest, if nothing is heard of it."""
        self.told = False
        """It was told to stop, or its connection has gone."""


class Place:
    """One handler in one process."""

    __slots__ = ("ahead", "free", "received", "running", "slots", "stated", "waiting")

    def __init__(self, slots: int, ahead: int) -> None:
        self.slots = slots
        self.free = slots
        self.ahead = ahead
        self.waiting: deque[GrantedTask] = deque()
        self.running: dict[Key, Attempt] = {}
        self.received = 0
        self.stated = 0


class ServiceProcess(Process):
    """A service from its start to its end.

    Args:
        world: The world.
        name: Its name.
        sidecar: Returns its host's sidecar, if one runs.
        slots: Of each handler it serves.
        policies: Of each handler.
        clock: The machine's elapsed clock.
        checks: What watches.
        number: Its number if the sidecar supervises it, otherwise 0.
        restart: Kills this process, and starts another in its place.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        sidecar: "Callable[[], SidecarProcess | None]",
        slots: dict[str, int],
        policies: dict[str, dict[str, int]],
        clock: Clock,
        checks: "Checks",
        number: int,
        restart: Callable[[], None],
    ) -> None:
        super().__init__(world, name)
        self._sidecar = sidecar
        self._policies = policies
        self._checks = checks
        self.number = number
        self.restart = restart
        rng = world.rng
        self._places = {h: Place(n, rng.choice((0, 0, 2, 5))) for h, n in slots.items()}
        self._pace = rng.choice((1, 1, 5))
        self._lies = rng.random() < 0.3
        self._keeps_time = rng.random() < 0.5
        """Whether it stops overdue attempts on its own, before the sidecar does."""
        self.knows_validity = rng.random() < 0.8
        """Whether it stops by itself when the sidecar falls silent."""
        self._clock = clock
        self._validity = Alarm(world, name, lambda: self.run(self._leases_over))
        self._told_before: deque[Outcome] = deque(maxlen=20)
        self._stream: Stream | None = None
        self._taking = True
        self._connect_in(rng.randrange(20 * MS))

    # --- The connection ------------------------------------------------------------------------

    def _connect_in(self, delay_us: int) -> None:
        self.world.after(delay_us, lambda: self.run(self._connect))

    def _connect(self) -> None:
        sidecar = self._sidecar()
        if self._stream is not None or not self._taking:
            return
        if sidecar is None or sidecar.draining:
            self._connect_in(50 * MS)
            return
        self._stream = sidecar.open_stream(self, self.number)
        declarations = [Declaration(h, self._policies[h]) for h in self._places]
        slots = [Limit(h, place.slots) for h, place in self._places.items()]
        self._stream.to_sidecar(Attach(1, 1, SERVICE, "0", declarations, slots))

    def closed(self) -> None:
        """Stop everything: nothing of it can be told any more."""
        self._disconnected()
        self._connect_in(self.world.rng.randrange(10 * MS, 200 * MS))

    def _disconnected(self) -> None:
        self._stream = None
        self._validity.set(None)
        for place in self._places.values():
            place.waiting.clear()
            place.received = place.stated = 0
            running, place.running = place.running, {}
            for attempt in running.values():
                attempt.told = True
                if not attempt.deaf:
                    self._checks.stopped(attempt)
                    place.free += 1

    def received(self, message: Message) -> None:
        """Take what the sidecar sends."""
        match message:
            case Attached():
                self._state()
            case Tasks(groups):
                for handler, tasks in groups:
                    place = self._places[handler]
                    place.received += len(tasks)
                    place.waiting.extend(tasks)
                    self._begin(handler, place)
                self._state()
            case Revoke(revoked):
                for task_id, token, reason in revoked:
                    self._revoke((task_id, token), reason)
                self._state()
            case Recall(leases):
                self._give_back({(lease.id, lease.token) for lease in leases})
            case Validity(until_ms):
                if self.knows_validity:
                    self._validity.set(self._clock.when(until_ms) + LATE_US)
            case Goodbye() | Refused(code="stopping"):
                pass
            case _:
                self._checks.surprised(self.name, message)

    # --- Attempts ------------------------------------------------------------------------------

    def _begin(self, handler: str, place: Place) -> None:
        while place.free and place.waiting and self._stream is not None:
            place.free -= 1
            task = place.waiting.popleft()
            attempt = Attempt(self, self._stream.sidecar, handler, (task.id, task.token))
            place.running[attempt.key] = attempt
            self._checks.began(attempt, task)
            self._work(place, attempt, task)

    def _work(self, place: Place, attempt: Attempt, task: GrantedTask) -> None:
        behaviour = task.payload.split(b" ", 1)[0].decode()
        rng = self.world.rng
        runs_us = self._pace * self.world.between(MS // 2, 20 * MS)
        timeout_us = task.timeout_ms * MS
        outcome: tuple[OutcomeKind, Result | Failure | None] = (
            OutcomeKind.SUCCESS,
            _result(attempt.key),
        )
        attempt.silent_us = self.world.now + int(1.02 * timeout_us) + attempt.sidecar.patience_us
        match behaviour:
            case "long":
                runs_us = self.world.between(100 * MS, 1_200 * MS)
            case "over" | "hang":
                runs_us = timeout_us + self.world.between(0, 3 * SECOND)
                attempt.deaf = behaviour == "hang"
            case "retry" if task.attempt <= 1 + rng.randrange(2):
                outcome = (OutcomeKind.RETRY, self._failure())
            case "always":
                outcome = (OutcomeKind.RETRY, self._failure())
            case "defer" if task.delivery <= 2:
                outcome = (OutcomeKind.DEFER, self._failure())
            case "notnow":
                outcome = (OutcomeKind.DEFER, self._failure())
            case "fatal":
                outcome = (OutcomeKind.FATAL, Failure("fatal", "for good"))
            case "poison":
                self.world.after(runs_us, lambda: self.run(lambda: self._crash(attempt)))
                return
            case "crashonce" if task.delivery == 1:
                self.world.after(runs_us, lambda: self.run(lambda: self._crash(attempt)))
                return
        if runs_us > timeout_us and not attempt.deaf and self._keeps_time:
            runs_us, outcome = timeout_us, (OutcomeKind.RETRY, _TIMEOUT)
        self.world.after(runs_us, lambda: self.run(lambda: self._end(place, attempt, *outcome)))

    def _failure(self) -> Failure:
        wait_ms = self.world.rng.choice((None, None, 0, 300))
        return Failure("error", "did not work", "", wait_ms)

    def _crash(self, attempt: Attempt) -> None:
        if attempt.key in self._places[attempt.handler].running:
            self.world.hit("handler_took_its_process_down")
            self.restart()

    def _check_given_up(self, attempt: Attempt) -> None:
        """Check that nobody waited for one that did not answer at its timeout and after a grace.

        A supervised process is ended instead, when all it runs has had time to end. A sidecar that
        stops gives everything until its own end.
        """
        sidecar, lease = attempt.sidecar, Lease(*attempt.key)
        overdue = self.world.now > attempt.silent_us and not self.number
        patient = sidecar.draining or sidecar.slept_since(attempt.began_us)
        if overdue and sidecar.alive and not patient:
            if lease in sidecar.core._holdings.leases():
                raise Broken("no silence is waited for", f"{self.name} {attempt.key}")
            self.world.hit("silent_attempt_given_up")

    def _end(
        self, place: Place, attempt: Attempt, kind: OutcomeKind, value: Result | Failure | None
    ) -> None:
        """End an attempt, unless it was stopped before."""
        if not self._checks.stopped(attempt):
            return
        place.free += 1
        if place.running.pop(attempt.key, None) is not None:
            self._check_given_up(attempt)
            self._tell(Outcome(*attempt.key, kind, 1_000, value))
        else:
            self.world.hit("attempt_outlived_its_connection")
        self._begin(attempt.handler, place)
        self._state()

    def _tell(self, outcome: Outcome) -> None:
        if self._stream is None:
            return
        told = [outcome]
        if self._lies and self.world.chance(0.2):
            lie = self.world.rng.choice([outcome, *self._told_before])
            told.append(lie._replace(kind=OutcomeKind.RETRY, value=None))
            self.world.hit("service_told_twice")
        self._told_before.append(outcome)
        self._stream.to_sidecar(Outcomes(0, told))

    # --- What it is told -----------------------------------------------------------------------

    def _revoke(self, key: Key, reason: str) -> None:
        self._give_back({key})
        for handler, place in self._places.items():
            attempt = place.running.get(key)
            if attempt is None:
                continue
            self.world.hit(f"revoked_{reason}")
            self._halt(place, attempt)
            self._begin(handler, place)

    def _halt(self, place: Place, attempt: Attempt) -> None:
        """Tell an attempt to stop; it takes a moment, or does not care."""
        attempt.told = True
        if attempt.deaf:
            return
        kind: OutcomeKind = OutcomeKind.RETRY
        value: Result | Failure = _TIMEOUT
        if self.world.chance(0.2):  # It had just finished.
            kind, value = OutcomeKind.SUCCESS, _result(attempt.key)
        self.world.after(
            self.world.between(0, STOPS_US_MAX),
            lambda: self.run(lambda: self._end(place, attempt, kind, value)),
        )

    def _leases_over(self) -> None:
        """Stop everything by oneself: the sidecar is silent."""
        self.world.hit("service_found_its_leases_over")
        self._give_back(None)
        for place in self._places.values():
            for attempt in list(place.running.values()):
                self._halt(place, attempt)

    def _give_back(self, keys: set[Key] | None) -> None:
        for place in self._places.values():
            for task in list(place.waiting):
                key = (task.id, task.token)
                if keys is None or key in keys:
                    place.waiting.remove(task)
                    self.world.hit("unbegun_task_given_back")
                    self._tell(Outcome(*key, OutcomeKind.RETURNED, 0, None))

    def waiting(self) -> list[Key]:
        """Return what is here and has not begun, where it is known to the sidecar as well.

        Something that was revoked may have begun before that was read: its slot is taken here only.
        """
        return [
            (task.id, task.token)
            for place in self._places.values()
            if len(place.running) == place.slots and not any(a.told for a in place.running.values())
            for task in place.waiting
        ]

    # --- Demand --------------------------------------------------------------------------------

    def _state(self) -> None:
        if self._stream is None or not self._taking:
            return
        stated = []
        for handler, place in self._places.items():
            total = place.received - len(place.waiting) + place.free + place.ahead
            if self._lies and self.world.chance(0.1):
                total = max(0, total + self.world.rng.randrange(-5, 6))
                self.world.after(300 * MS, lambda: self.run(self._state))
            if total != place.stated:
                place.stated = total
                stated.append(Limit(handler, total))
        if stated:
            self._stream.to_sidecar(Demand(stated))

    # --- The end -------------------------------------------------------------------------------

    def retire(self, *, hangs_up: bool = False) -> None:
        """SIGTERM: take no more, give back what waits, finish what has begun.

        Args:
            hangs_up: It closes its connection at once, and has attempts that go on.
        """
        self._taking = False
        self._give_back(None)
        if hangs_up and self._stream is not None:
            self.world.hit("stuck_process_hung_up")
            self._stream.close_client()
            self._disconnected()
        else:
            self._leave_when_done()

    def _leave_when_done(self) -> None:
        if any(place.running or place.waiting for place in self._places.values()):
            self._give_back(None)
            self.world.after(20 * MS, lambda: self.run(self._leave_when_done))
        else:
            self.world.hit("service_left_in_order")
            self.restart()

    def kill(self) -> None:
        """Die, with every attempt."""
        super().kill()
        self._checks.process_died(self)
        if self._stream is not None:
            self._stream.close_client(loses=self.world.chance(0.3))
            self._stream = None


def _result(key: Key) -> Result:
    """Return a result that tells which lease it is of."""
    return Result(None, key[1].to_bytes(8, "big"))
