"""The spool against a simple model: nothing told is lost, and nothing overtakes."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol import messages as m
from protocol.errors import Code
from protocol.submission import encode_batch
from sidecar.core import events as e
from tests.sidecar.core.driver import HEARTBEAT_MS
from tests.sidecar.core.spooling import SpoolDriver, Store, numbers_in
from tests.support.builders import a_submission

BATCH_BYTES = len(encode_batch([a_submission(1)]))
STORE_BATCHES = 30
TERMS = {
    "spool_window_bytes": 3 * BATCH_BYTES,
    "spool_bytes_max": STORE_BATCHES * BATCH_BYTES,
    "submit_bytes_max": 20 * BATCH_BYTES,
    "submit_bytes_per_connection_max": 12 * BATCH_BYTES,
    "submit_bytes_in_flight_max": 4 * BATCH_BYTES,
}
APPS = (11, 12)


@dataclass
class App:
    """What one app has submitted that may be spooled."""

    waiting: set[int] = field(default_factory=set)
    """Tasks without a verdict."""
    sent_to: int = 0
    """The latest of its tasks that was ever sent to the coordinator."""


class SpoolMachine(RuleBasedStateMachine):
    """The model: which tasks are durable somewhere by what the apps were told."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.apps: dict[int, App] = {}
        self.insisting: set[int] = set()
        self.task = 0
        self.in_flight: dict[int, list[int]] = {}
        self.accepted: set[int] = set()
        self.spooled: set[int] = set()
        """Tasks whose app was told so, and that the coordinator has not accepted."""
        self.ever_sent: set[int] = set()
        self.in_order = True
        self.begin()

    def begin(self) -> None:
        """Start a process on the store; what was not durable is gone, and its apps know."""
        self.driver = SpoolDriver(self.store, **TERMS)
        self.in_flight.clear()
        self.insisting.clear()
        for app in APPS:
            self.apps[app] = App(sent_to=self.apps[app].sent_to if app in self.apps else 0)
            self.driver.attach(app)
        self.look()

    # --- Reading what the core did ----------------------------------------------------------------

    def look(self) -> None:
        for app in APPS:
            for number, code in self.driver.verdicts(app):
                self.see_verdict(app, number, code)
        for request, numbers in self.driver.sent():
            self.in_flight[request] = numbers
            for number in numbers:
                self.see_sent(number)
        self.driver.forget()

    def see_verdict(self, app: int, number: int, code: str | None) -> None:
        if number in self.insisting:
            self.insisting.remove(number)
            assert code != Code.SPOOLED
        else:
            assert number in self.apps[app].waiting, "a second verdict"
            self.apps[app].waiting.remove(number)
        if code is None:
            assert number in self.accepted, "accepted, but the coordinator has not said so"
        elif code == Code.SPOOLED:
            assert number in self.accepted or number in self.stored(), "spooled, but not durable"
            if number not in self.accepted:
                self.spooled.add(number)
        else:
            assert code in (Code.BUSY, Code.UNAVAILABLE)

    def see_sent(self, number: int) -> None:
        if number in self.insisting:
            return
        app = self.apps[APPS[number % len(APPS)]]
        if number > app.sent_to:
            app.sent_to = number
        elif self.in_order:
            assert number in self.ever_sent, "overtaken"
        self.ever_sent.add(number)

    def stored(self) -> set[int]:
        return {n for _, tasks in self.store.batches.values() for n in numbers_in(tasks)}

    # --- Apps -------------------------------------------------------------------------------------

    @rule(app=st.sampled_from(APPS), spool=st.integers(0, 9), count=st.integers(1, 4))
    def submit(self, app: int, spool: int, count: int = 1) -> None:
        for _ in range(count):
            self.submit_one(app, spool)

    def submit_one(self, app: int, spool: int) -> None:
        self.task += 1
        while APPS[self.task % len(APPS)] != app:
            self.task += 1
        if spool:
            self.apps[app].waiting.add(self.task)
            self.driver.submit(self.task, app=app)
        else:
            self.insisting.add(self.task)
            self.driver.insist(self.task, app=app)
        self.look()

    # --- The coordinator --------------------------------------------------------------------------

    @precondition(lambda self: not self.driver.core.session_open)
    @rule()
    def connect(self) -> None:
        self.driver.said(m.Hello)
        self.driver.step(e.LinkUp())
        while not self.driver.said(m.Hello):
            self.driver.advance(100)
        self.in_flight.clear()
        self.driver.welcome(resumed=True)
        self.look()

    @rule()
    def disconnect(self) -> None:
        self.driver.step(e.LinkDown())
        self.in_flight.clear()
        self.look()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), busy=st.booleans())
    def answer(self, data: st.DataObject, busy: bool) -> None:
        """Any of what is under way, in any order; a late verdict may be for what was spooled."""
        request = data.draw(st.sampled_from(sorted(self.in_flight)))
        numbers = self.in_flight.pop(request)
        if busy:
            self.driver.accept(request, code=Code.BUSY)
        else:
            self.accepted.update(numbers)
            self.spooled.difference_update(numbers)
            self.driver.accept(request)
        self.look()

    @rule(count=st.integers(1, 8))
    def have_an_outage(self, count: int) -> None:
        """What other rules do as well, but seldom in this order."""
        self.disconnect()
        for number in range(count):
            self.submit_one(APPS[number % len(APPS)], 1)
        self.pass_time(1_000)
        if self.driver.work is not None:
            self.commit()
        self.connect()

    # --- The store, the process and time ----------------------------------------------------------

    @precondition(lambda self: self.driver.work is not None)
    @rule()
    def commit(self) -> None:
        self.driver.commit_one()
        self.look()

    @precondition(lambda self: self.driver.work is not None)
    @rule(took_place=st.booleans(), often=st.integers(0, 9))
    def fail(self, took_place: bool, often: int) -> None:
        if often:
            return
        if took_place:  # A commit that fails may have taken place.
            assert self.driver.work is not None
            self.store.apply(self.driver.now_ms, self.driver.work)
        self.in_order = False
        self.driver.fail()
        self.look()

    @rule(committed=st.booleans(), often=st.integers(0, 3))
    def kill(self, committed: bool, often: int) -> None:
        """The process is gone, and with it all that was in memory only."""
        if often:
            return
        if self.driver.work is not None and committed:
            self.store.apply(self.driver.now_ms, self.driver.work)
        now_ms = self.driver.now_ms
        self.begin()
        self.driver.now_ms = now_ms

    @rule(ms=st.sampled_from([1, 100, 500, 1_000, HEARTBEAT_MS]))
    def pass_time(self, ms: int) -> None:
        self.driver.advance(ms)
        if self.driver.core.session_open and self.driver.said(m.Heartbeat):
            self.driver.beat()
        self.look()

    # --- Always -----------------------------------------------------------------------------------

    @invariant()
    def told_tasks_are_durable(self) -> None:
        assert self.spooled <= self.stored()

    @invariant()
    def everything_is_bounded(self) -> None:
        assert len(self.store.batches) <= STORE_BATCHES + 4  # Removals follow a commit later.
        assert int(self.driver.facts()["spooled_batches"]) <= STORE_BATCHES

    @invariant()
    def next_due_time_lies_ahead(self) -> None:
        due_ms = self.driver.core.next_due_ms()
        assert due_ms is None or due_ms > self.driver.now_ms

    def teardown(self) -> None:
        """With a coordinator that takes everything, everything comes to its end."""
        if self.driver.facts()["spool"] == "failed":
            self.begin()
        self.disconnect()
        self.connect()
        for _ in range(200):
            if self.is_quiet():
                break
            self.driver.commit()
            self.look()
            requests = list(self.in_flight)
            for request in requests:
                self.accepted.update(self.in_flight.pop(request))
            self.driver.accept(*requests)
            self.spooled -= self.accepted
            self.look()
            self.pass_time(500)
        assert not self.spooled, "told to be durable, and never submitted"
        assert not any(app.waiting for app in self.apps.values()), "an app waits for ever"
        assert not self.insisting
        assert self.store.batches == {}

    def is_quiet(self) -> bool:
        """Whether nothing is under way any more."""
        facts = self.driver.facts()
        return not (facts["submissions_waiting"] or facts["spooled_batches"] or self.driver.work)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
