"""The core against a simple model: whatever happens, each lease has one life and one end."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol import messages as m
from sidecar.core import events as e
from tests.sidecar.core.driver import DEADLINE_MS, HEARTBEAT_MS, Driver
from tests.support.builders import a_granted_task, an_outcome

ATTEMPT_MS = 20_000
GRACE_MS = 5_000
NEVER_MS = 2**62
SUCCESS, RETRY, LOST = m.OutcomeKind.SUCCESS, m.OutcomeKind.RETRY, m.OutcomeKind.LOST
RETURNED = m.OutcomeKind.RETURNED

Key = tuple[bytes, int]


@dataclass
class Service:
    """What the model knows of one service."""

    slots: int
    total: int = 0
    received: int = 0
    queue: list[Key] = field(default_factory=list)
    """Handed over and not answered, in order; the first ``slots`` may have begun."""
    falling: bool = False
    """Whether its demand was lowered, and not raised since."""

    @property
    def begun(self) -> list[Key]:
        return self.queue[: self.slots]


class SidecarMachine(RuleBasedStateMachine):
    """The model: which leases are held, which have an outcome, and which are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.services: dict[int, Service] = {}
        self.connections = 0
        self.tasks = 0
        self.link_up = False
        self.hello: m.Hello | None = None
        self.hello_ms = 0
        self.heartbeat_ms: int | None = None
        self.deadline_ms = NEVER_MS
        self.granted = 0
        self.stated = 0
        self.held: set[Key] = set()
        self.outcomes: dict[Key, m.Outcome | None] = {}
        """Of leases that ended here and are not recorded; None while it was not seen yet."""
        self.ran_out: set[Key] = set()
        """Leases that ended at the deadline."""
        self.recorded: set[Key] = set()
        self.in_flight: dict[int, list[m.Outcome]] = {}
        self.handed_ms: dict[Key, int] = {}
        self.silent_ms: dict[Key, int] = {}
        """When attempts that were revoked at their timeout are reported without their word."""
        self.unanswered: set[Key] = set()
        """Leases revoked since their task was cancelled; the service has not answered."""
        self.revoked_as_cancelled: set[Key] = set()
        """Attempts that had begun when they were told to stop since their task was cancelled."""
        self.reconnects = 0
        self.paused = False

    # --- Reading what the core did ----------------------------------------------------------------

    def void(self) -> None:
        """The model's deadline, looked at before each event as the core must do."""
        if self.driver.now_ms >= self.deadline_ms:
            self.deadline_ms = NEVER_MS
            self.ran_out |= self.held
            for key in list(self.held):
                self.gone(key)

    def gone(self, key: Key) -> None:
        self.held.discard(key)
        for service in self.services.values():
            if key in service.queue and key not in service.begun:
                service.queue.remove(key)

    def ended(self, key: Key, outcome: m.Outcome | None = None) -> None:
        """A held lease has come to its outcome."""
        if key in self.held:
            self.held.remove(key)
            self.outcomes[key] = outcome

    def look(self) -> None:
        """Read everything that was sent, and check it."""
        self.void()
        self.paused = False
        for key, due_ms in self.silent_ms.items():
            if self.driver.now_ms >= due_ms:
                self.ended(key)
        for to, message in self.driver.to_local:
            if isinstance(message, m.Tasks):
                self.see_tasks(to, message)
            elif isinstance(message, m.Revoke):
                self.see_revoked(message)
        for sent in self.driver.to_coordinator:
            self.see(sent)
        self.driver.forget()
        if self.driver.reconnects > self.reconnects:
            self.reconnects = self.driver.reconnects
            self.link_up = False
            self.hello = None

    def see_tasks(self, to: int, message: m.Tasks) -> None:
        service = self.services[to]
        for group in message.groups:
            for task in group.tasks:
                key = (task.id, task.token)
                assert key in self.held, "a lease that is not held was handed over"
                assert key not in self.handed_ms, "a lease was handed over twice"
                self.handed_ms[key] = self.driver.now_ms
                service.queue.append(key)
                service.received += 1
        assert service.received <= service.total, "more was handed over than was asked for"

    def see_revoked(self, message: m.Revoke) -> None:
        for revoked in message.revoked:
            if revoked.reason == "cancelled":
                self.unanswered.add((revoked.id, revoked.token))
            elif revoked.reason == "timeout":
                key = (revoked.id, revoked.token)
                assert key not in self.silent_ms, "an attempt timed out twice"
                assert self.driver.now_ms >= self.handed_ms[key] + ATTEMPT_MS
                self.silent_ms[key] = self.driver.now_ms + GRACE_MS

    def see(self, message: m.Message) -> None:
        match message:
            case m.Hello():
                expected = self.held | set(self.outcomes)
                assert {(x.id, x.token) for x in message.held} == expected
                assert len(message.held) == len(expected)
                self.hello, self.hello_ms = message, self.driver.now_ms
            case m.Heartbeat():
                self.heartbeat_ms = message.clock_ms
                self.see_limits(message.limits)
            case m.Demand():
                self.see_limits(message.limits)
            case m.Outcomes():
                self.in_flight[message.number] = message.outcomes
                for outcome in message.outcomes:
                    self.see_outcome(outcome)

    def see_limits(self, limits: list[m.Limit]) -> None:
        for limit in limits:
            assert limit.total >= self.granted, "demand fell below what was granted"
            self.stated = limit.total

    def see_outcome(self, outcome: m.Outcome) -> None:
        key = (outcome.id, outcome.token)
        assert key not in self.recorded, "a recorded outcome was sent again"
        if self.nobody_wants_more and key in self.held and key not in self.handed_ms:
            assert outcome.kind is RETURNED
            self.ended(key)  # Its grant and the lower demand have crossed.
        assert key in self.outcomes, "an outcome that nothing led to"
        assert self.outcomes[key] in (None, outcome), "two outcomes of one lease"
        self.outcomes[key] = outcome

    @property
    def nobody_wants_more(self) -> bool:
        """Whether there are services, and all have lowered their demand."""
        return bool(self.services) and all(s.falling for s in self.services.values())

    # --- The coordinator --------------------------------------------------------------------------

    @initialize(total=st.integers(1, 6))
    def begin(self, total: int) -> None:
        self.come_back(resumed=True)
        self.attach(slots=2, total=total)

    @precondition(lambda self: not self.link_up)
    @rule()
    def connect(self) -> None:
        self.void()
        self.link_up = True
        self.hello = None
        self.driver.step(e.LinkUp())
        self.look()

    @precondition(lambda self: not self.driver.core.session_open)
    @rule(resumed=st.booleans())
    def come_back(self, resumed: bool) -> None:
        self.connect()
        while not self.driver.core.session_open:
            if self.hello is None:
                self.pass_time(100)
            else:
                self.welcomed(resumed, set())

    @precondition(lambda self: self.link_up)
    @rule()
    def disconnect(self) -> None:
        self.void()
        self.link_up = False
        self.hello = None
        self.driver.step(e.LinkDown())
        self.look()

    @precondition(lambda self: self.hello is not None)
    @rule(resumed=st.booleans(), data=st.data())
    def welcome(self, resumed: bool, data: st.DataObject) -> None:
        self.void()
        assert self.hello is not None
        named = [(x.id, x.token) for x in self.hello.held]
        self.welcomed(resumed, data.draw(st.sets(st.sampled_from(named))) if named else set())

    def welcomed(self, resumed: bool, lost: set[Key]) -> None:
        """Welcome the sidecar; ``lost`` are those of what it named that it has no more."""
        self.void()
        assert self.hello is not None
        named = {(x.id, x.token) for x in self.hello.held}
        self.hello = None
        lost = lost if resumed else named
        self.driver.welcome(resumed=resumed, lost=[m.Lease(*key) for key in sorted(lost)])
        if self.driver.core.session_open:
            assert not named & self.ran_out, "a lease that ran out is believed held"
            self.deadline_ms = self.hello_ms + DEADLINE_MS
            self.granted = self.stated = 0
            self.heartbeat_ms = None
            for key in lost if resumed else set(self.held):
                self.gone(key)
            missing = set(self.in_flight)
            sent = [x.number for x in self.driver.to_coordinator if isinstance(x, m.Outcomes)]
            assert missing <= set(sent), "an unrecorded outcome was not sent again"
        self.look()

    @precondition(lambda self: self.heartbeat_ms is not None)
    @rule()
    def beat(self) -> None:
        self.void()
        clock_ms, self.heartbeat_ms = self.heartbeat_ms, None
        assert clock_ms is not None
        if self.driver.core.session_open:
            self.deadline_ms = clock_ms + DEADLINE_MS
        self.driver.beat(clock_ms)
        self.look()

    @precondition(lambda self: self.driver.core.session_open and self.stated > self.granted)
    @rule(count=st.integers(1, 6), again=st.booleans())
    def grant(self, count: int, again: bool) -> None:
        self.void()
        if not self.driver.core.session_open:
            return
        made = []
        for _ in range(min(count, self.stated - self.granted)):
            self.tasks += 1
            # A task of before under the next token, or a new one.
            number, token = (max(1, self.tasks // 2), self.tasks) if again else (self.tasks, 1)
            made.append(a_granted_task(number, token=token, timeout_ms=ATTEMPT_MS))
        self.driver.core.step(self.driver.now_ms, e.LocalClosed(10**6))  # Time counts first.
        if self.driver.core.session_open:
            self.granted += len(made)
            keys = [(task.id, task.token) for task in made]
            self.held.update(keys)
            if not self.services:
                for key in keys:
                    self.ended(key)
        self.driver.grant(*made)
        self.look()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        self.void()
        if self.held:
            key = data.draw(st.sampled_from(sorted(self.held)))
            self.gone(key)
            self.driver.coordinator(m.Revoke([m.Revoked(*key, "lease-lost")]))
        self.look()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.void()
        if self.held:
            key = data.draw(st.sampled_from(sorted(self.held)))
            if any(key in service.begun for service in self.services.values()):
                self.revoked_as_cancelled.add(key)
            if not any(key in service.queue for service in self.services.values()):
                self.ended(key, m.Outcome(*key, RETURNED, 0, None))
            self.driver.coordinator(m.Revoke([m.Revoked(*key, "cancelled")]))
        self.look()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        self.void()
        number = data.draw(st.sampled_from(sorted(self.in_flight)))
        for outcome in self.in_flight.pop(number):
            key = (outcome.id, outcome.token)
            del self.outcomes[key]
            self.recorded.add(key)
        self.driver.coordinator(m.Recorded(number, []))
        self.look()

    # --- Services ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.services) < 3)
    @rule(slots=st.integers(1, 3), total=st.integers(0, 6))
    def attach(self, slots: int, total: int) -> None:
        self.void()
        self.connections += 1
        self.services[self.connections] = Service(slots, total)
        self.driver.serve(self.connections, slots=slots, total=total)
        self.look()

    @precondition(lambda self: self.services)
    @rule(more=st.integers(0, 6), data=st.data())
    def demand(self, more: int, data: st.DataObject) -> None:
        self.void()
        number = data.draw(st.sampled_from(sorted(self.services)))
        service = self.services[number]
        total = service.received + more
        if total != service.total:
            service.falling = total < service.total
        service.total = total
        self.driver.demand(service.total, number)
        self.look()

    @precondition(lambda self: any(s.queue for s in self.services.values()))
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        self.void()
        number, service = data.draw(
            st.sampled_from([(n, s) for n, s in sorted(self.services.items()) if s.queue])
            if any(s.queue for s in self.services.values())
            else st.just((0, Service(1)))
        )
        told: list[m.Outcome] = []
        while service.queue and (not told or data.draw(st.booleans())):
            key = data.draw(st.sampled_from(service.begun))
            outcome = an_outcome(1, id=key[0], token=key[1])
            service.queue.remove(key)
            self.ended(key, outcome)
            told.append(outcome)
        if told:
            self.driver.tell(*told, connection=number)
        self.look()

    @precondition(lambda self: self.unanswered)
    @rule()
    def give_back(self) -> None:
        """Let services answer for what was revoked and has not begun."""
        self.void()
        for number, service in self.services.items():
            waiting = [key for key in service.queue[service.slots :] if key in self.unanswered]
            for key in waiting:
                service.queue.remove(key)
                self.ended(key, m.Outcome(*key, RETURNED, 0, None))
            if waiting:
                told = [m.Outcome(*key, RETURNED, 0, None) for key in waiting]
                self.driver.tell(*told, connection=number)
        self.unanswered.clear()
        self.look()

    @precondition(lambda self: self.services)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        self.void()
        number = data.draw(st.sampled_from(sorted(self.services)))
        service = self.services.pop(number)
        expected = {}
        for place, key in enumerate(service.queue):
            if key in self.held:
                kind = RETRY if key in self.silent_ms else LOST
                if kind is LOST and key in self.revoked_as_cancelled:
                    kind = RETURNED
                expected[key] = kind if place < service.slots else RETURNED
                self.ended(key)
        if not self.services:
            for key in list(self.held):
                expected[key] = RETURNED
                self.ended(key)
        self.driver.close(number)
        self.look()
        for key, kind in expected.items():
            outcome = self.outcomes[key]
            assert outcome is None or outcome.kind is kind

    # --- Time -------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 10, 100, HEARTBEAT_MS, 4_500, DEADLINE_MS]))
    def pass_time(self, ms: int) -> None:
        self.driver.flush()
        self.look()
        end_ms = self.driver.now_ms + ms
        while (due_ms := self.driver.core.next_due_ms()) is not None and due_ms <= end_ms:
            assert due_ms > self.driver.now_ms, "the core asks to be called again at once"
            self.driver.now_ms = due_ms
            self.driver.flush()
            self.look()
        self.driver.now_ms = end_ms
        self.driver.flush()
        self.look()

    @precondition(lambda self: self.driver.core.session_open)
    @rule(beats=st.integers(1, 15))
    def live_on(self, beats: int) -> None:
        for _ in range(beats):
            self.pass_time(HEARTBEAT_MS)
            if self.heartbeat_ms is not None:
                self.beat()

    @rule(ms=st.sampled_from([100, 500, 5_000, DEADLINE_MS]))
    def be_paused(self, ms: int) -> None:
        """The next event finds what is void before the core was called by its timer."""
        self.driver.jump(ms)
        self.paused = True

    # --- Always -----------------------------------------------------------------------------------

    @precondition(lambda self: not self.paused)
    @invariant()
    def held_leases_are_those_of_the_model(self) -> None:
        self.driver.flush()
        self.look()
        facts = self.driver.facts()
        counts = [facts[f"tasks_{where}"] for where in ("buffered", "at_services", "running")]
        assert sum(int(count) for count in counts) == len(self.held)
        assert facts["outcomes_unrecorded"] == len(self.outcomes)
        assert facts["tasks_running"] == sum(
            len(self.held & set(s.begun)) for s in self.services.values()
        )

    @precondition(lambda self: not self.paused)
    @invariant()
    def tasks_wait_only_while_nobody_has_room(self) -> None:
        if int(self.driver.facts()["tasks_buffered"]):
            assert not self.nobody_wants_more
            assert all(s.received == max(s.total, s.received) for s in self.services.values())

    def teardown(self) -> None:
        """Everything that came to an outcome is recorded in the end, and nothing else is held."""
        self.void()
        for number in list(self.services):
            self.driver.close(number)
            service = self.services.pop(number)
            for key in [*service.queue, *(self.held if not self.services else ())]:
                self.ended(key)
            self.look()
        self.link_up = False
        self.connect()
        self.come_back(resumed=True)
        while self.in_flight:
            number, sent = self.in_flight.popitem()
            for outcome in sent:
                key = (outcome.id, outcome.token)
                assert self.outcomes.pop(key) == outcome
                self.recorded.add(key)
            self.driver.coordinator(m.Recorded(number, []))
            self.look()
        assert not self.outcomes
        assert not self.held


TestSidecar = SidecarMachine.TestCase
TestSidecar.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
