"""The sidecar's logic: events in, effects out, deterministic and without I/O.

``step`` applies one event; ``flush`` says what is to be sent for all events since the last one.
The shell calls ``flush`` once per turn of its event loop, and again at ``next_due_ms`` at the
latest, so that whatever arises in one turn leaves in few messages.
"""

from collections.abc import Callable, Sequence

from protocol import messages as m
from protocol.errors import CODES
from protocol.limits import FRAME_BYTES_MAX
from sidecar.core import events as e
from sidecar.core.demand import Demand as Asked
from sidecar.core.drain import Drain, Stage
from sidecar.core.evidence import Evidence
from sidecar.core.hold import Hold
from sidecar.core.holdings import Holdings
from sidecar.core.keeping import Keeping
from sidecar.core.lane import Key
from sidecar.core.link import Link
from sidecar.core.outbox import Outbox
from sidecar.core.outcomes import Unrecorded
from sidecar.core.peers import Peers, Refusal
from sidecar.core.progress import ProgressKeeping
from sidecar.core.questions import Questions
from sidecar.core.spool import Spool
from sidecar.core.statements import Statements
from sidecar.core.submissions import Submissions
from sidecar.core.terms import NEVER_MS, Identity, Terms
from sidecar.core.witness import Witness

_STOPPING_RETRY_MS = 1_000
_LEASE_LOST = "lease-lost"
_CANCELLED = "cancelled"
_CUT_OFF = "its connection ended while attempts ran in it"


class Sidecar:
    """One sidecar process, but for its sockets and its clock.

    ``now_ms`` never goes back; it must count while the machine sleeps.
    """

    def __init__(
        self, identity: Identity, terms: Terms, spooled: e.SpoolContents | None = None
    ) -> None:
        self._identity = identity
        self._link = Link(identity)
        self._witness = Witness(listens=terms.attempts_told)
        self._holdings = Holdings(terms.cancel_grace_ms, self._witness)
        self._evidence = Evidence()
        self._asked = Asked()
        self._unrecorded = Unrecorded()
        self._progress = ProgressKeeping()
        self._spool = Spool(spooled, terms)
        self._submissions = Submissions(terms, self._spool)
        self._questions = Questions(terms)
        self._peers = Peers(identity.service, terms.attach_ms)
        self._drain = Drain(terms)
        self._hold = Hold()
        self._outbox = Outbox()
        self._statements = Statements(
            self._peers, self._holdings, self._asked, lambda: self._takes_nothing
        )
        self._close: list[int] = []
        self._notes: list[e.Note] = []
        self._told_valid_ms = NEVER_MS
        """Until when services believe that leases hold."""
        self._keeping = Keeping(terms, self._spool, self._unrecorded)
        self._unrecorded.restore(() if spooled is None else spooled.outcomes)
        self._of_processes: list[e.OfProcess] = []
        self.facts_of_fleet: Callable[[int], dict[str, int | str]] = lambda _: {}
        """What there is to know of supervised processes at a time; another core's, where it is."""

    @property
    def session_open(self) -> bool:
        """Whether a session with the coordinator is open."""
        return self._link.open

    # --- Events --------------------------------------------------------------------------------

    def step(self, now_ms: int, event: e.Event) -> None:
        """Apply one event. Time counts first: what the event finds void is void."""
        self._expire(now_ms)
        match event:
            case e.FromCoordinator(message):
                self._from_coordinator(now_ms, message)
            case e.FromLocal(connection, message):
                self._from_local(now_ms, connection, message)
            case e.LinkUp():
                self._link.up(now_ms)
            case e.LinkDown():
                self._link.down()
            case e.LocalOpened(connection, process):
                self._peers.open(now_ms, connection)
                if process:
                    self._evidence.open(connection, process)
            case e.LocalRefused(connection, error):
                self._turn_away(now_ms, connection, Refusal(error.code, error.detail))
            case e.LocalClosed(connection):
                self._forget(now_ms, connection)
            case e.ProcessEnded(process, cause, as_told):
                self._end(self._evidence.ended(process, cause, as_told=as_told))
            case e.SpoolDone(loaded):
                self._outbox.verdicts(self._spool.done(now_ms, loaded))
            case e.SpoolFailed(detail):
                self._outbox.verdicts(self._spool.failed(now_ms, detail))
                self._unrecorded.not_journaled(self._spool.unsaved)
            case e.Drain():
                self._begin_drain(now_ms)

    def _expire(self, now_ms: int) -> None:
        if self._link.expire(now_ms):
            self._void(now_ms, "the coordinator did not answer in time")

    def _void(self, now_ms: int, reason: str) -> None:
        held = len(self._holdings.leases())
        stop_by_ms = now_ms + self._link.margin_ms
        self._outbox.revoke(self._holdings.void(_LEASE_LOST, stop_by_ms))
        self._progress.drop_all()
        if held:
            self._notes.append(e.Note("leases_lost", {"count": held, "reason": reason}))

    def _end(self, outcomes: list[m.Outcome]) -> None:
        """Take what leases came to, and keep it until it is recorded."""
        self._progress.ended(outcomes)
        self._unrecorded.add(outcomes)
        self._witness.ended(outcomes)

    # --- From the coordinator ------------------------------------------------------------------

    def _from_coordinator(self, now_ms: int, message: m.Message) -> None:  # noqa: PLR0912
        match message:
            case m.Grant():
                if self._link.takes(now_ms, message):
                    self._grant(message)
            case m.Recorded():
                round_trip_ms = self._unrecorded.record(now_ms, message)
                self._progress.recorded(self._unrecorded.leases)
                if round_trip_ms is not None:
                    self._asked.took(round_trip_ms)
            case m.Accepted(verdicts):
                self._outbox.verdicts(self._submissions.answer(now_ms, verdicts))
            case m.Answer(replies):
                self._outbox.replies(self._questions.answer(replies))
            case m.Beat():
                self._link.beat(now_ms, message)
                self._notes += self._hold.say()
            case m.Drain():
                self._drained(message)
            case m.Welcome():
                if self._link.welcome(now_ms, message):
                    self._welcomed(now_ms, message)
            case m.Revoke(revoked):
                for lease in revoked:
                    self._revoke(now_ms, lease)
            case m.Refused():
                self._link.refused(now_ms, message)
            case m.Goodbye(reason):
                self._notes.append(e.Note("coordinator_leaves", {"reason": reason}))
            case _:
                name = type(message).__name__
                self._notes.append(e.Note("unexpected_message", {"message": name}))

    def _grant(self, message: m.Grant) -> None:
        for handler, tasks in message.groups:
            self._asked.granted(handler, len(tasks))
            self._statements.touch((handler,))
        self._end(self._holdings.grant(message.groups))
        if self._takes_nothing:
            self._end(self._holdings.give_back())

    def _revoke(self, now_ms: int, lease: m.Revoked) -> None:
        if lease.reason != _CANCELLED:
            self._end_leases(now_ms, [lease[:2]], lease.reason)
            return
        told, outcomes = self._holdings.cancel(now_ms, [lease[:2]])
        self._outbox.revoke(told)
        self._end(outcomes)

    def _end_leases(self, now_ms: int, leases: Sequence[Key], reason: str) -> None:
        stop_by_ms = now_ms + self._link.margin_ms if reason == _LEASE_LOST else NEVER_MS
        self._outbox.revoke(self._holdings.revoke(leases, reason, stop_by_ms))
        self._progress.drop([(lease[0], lease[1]) for lease in leases])

    def _welcomed(self, now_ms: int, message: m.Welcome) -> None:
        if message.resumed:
            self._end_leases(now_ms, message.lost, _LEASE_LOST)
        else:
            self._void(now_ms, "the coordinator does not know them")
        self._hold.restart()
        self._asked.restart()
        self._unrecorded.resend()
        self._submissions.resend(now_ms)
        self._questions.resend()
        self._progress.resend()
        self._statements.handlers_due = self._statements.demand_due = True

    # --- From apps and services ----------------------------------------------------------------

    def _from_local(self, now_ms: int, connection: int, message: m.Message) -> None:
        if not self._peers.known(connection):
            return  # It was turned away; what it had sent before it knew is dropped.
        try:
            if isinstance(message, m.Attach):
                self._attach(connection, message)
            elif self._peers.attached(connection):
                self._from_attached(now_ms, connection, message)
            else:
                raise Refusal("malformed", "the first message must be ATTACH")
        except Refusal as refusal:
            self._turn_away(now_ms, connection, refusal)

    def _from_attached(self, now_ms: int, connection: int, message: m.Message) -> None:
        match message:
            case m.Outcomes(_, outcomes):
                counted, finished = self._holdings.settle(now_ms, connection, outcomes)
                self._end(counted)
                for handler, count in finished:
                    self._asked.finished(now_ms, handler, count)
                    self._statements.touch((handler,))
                if process := self._evidence.process_of(connection):
                    self._of_processes.append(e.Finished(process, len(outcomes)))
            case m.Submit(batches):
                for verdict in self._submissions.submit(now_ms, connection, batches):
                    self._outbox.verdicts([(connection, verdict)])
            case m.Demand(limits):
                for handler, total in limits:
                    self._demand(connection, handler, total)
            case m.Query(questions):
                behind = self._spool.last_number
                for reply in self._questions.ask(now_ms, connection, questions, behind):
                    self._outbox.replies([(connection, reply)])
            case _:
                self._seldom_from_attached(now_ms, connection, message)

    def _seldom_from_attached(self, now_ms: int, connection: int, message: m.Message) -> None:
        match message:
            case m.Progress(updates):
                self._progress.take(
                    now_ms, updates, lambda key: self._holdings.holds(connection, key)
                )
            case m.Cancel(requests):
                behind = self._spool.last_number
                for reply in self._questions.cancel(now_ms, connection, requests, behind):
                    self._outbox.replies([(connection, reply)])
            case m.Inspect():
                facts = self.facts(now_ms) | self.facts_of_fleet(now_ms)
                self._outbox.first(connection, m.Inspected(facts))
            case m.Goodbye():
                self._forget(now_ms, connection)
                self._close.append(connection)
            case _:
                name = type(message).__name__
                raise Refusal("malformed", f"{name} is not sent to a sidecar by apps or services")

    def _attach(self, connection: int, message: m.Attach) -> None:
        if self._drain.begun and message.declarations:
            raise Refusal("stopping", "this sidecar stops and takes no more services")
        version = self._peers.attach(connection, message)
        process = self._evidence.process_of(connection)
        self._holdings.open(connection, message.slots, killable=process > 0)
        if process and message.declarations:
            self._of_processes.append(e.Serving(process))
        self._statements.handlers_due |= bool(message.declarations)
        self._outbox.first(connection, m.Attached(version, self._identity.sidecar, FRAME_BYTES_MAX))
        if message.declarations and self._link.deadline_ms < NEVER_MS:
            self._outbox.first(connection, m.Validity(self._link.deadline_ms))

    def _demand(self, connection: int, handler: str, total: int) -> None:
        lane = self._holdings.lane(connection, handler)
        if lane is None:
            raise Refusal("malformed", f"demand for {handler!r}, which was not declared")
        lane.ask(total)
        self._statements.touch((handler,))

    def _turn_away(self, now_ms: int, connection: int, refusal: Refusal) -> None:
        if not self._peers.known(connection):
            return
        self._forget(now_ms, connection)
        retry_ms = _STOPPING_RETRY_MS if CODES[refusal.code].retry else 0
        self._outbox.last(connection, m.Refused(refusal.code, refusal.detail, retry_ms))
        self._close.append(connection)
        facts: dict[str, int | str] = {"code": refusal.code, "detail": refusal.detail}
        self._notes.append(e.Note("connection_refused", {"connection": connection, **facts}))

    def _forget(self, now_ms: int, connection: int) -> None:
        handlers = self._peers.handlers_of(connection)
        self._statements.handlers_due |= self._peers.close(connection)
        begun, unused = self._holdings.close(now_ms, connection)
        self._end(self._evidence.close(now_ms, connection, begun) + unused)
        self._submissions.forget(connection)
        self._questions.forget(connection)
        self._statements.touch(handlers)
        for handler in handlers:
            if not self._holdings.serves(handler):
                self._asked.forget(handler)

    # --- An operator's drain -------------------------------------------------------------------

    @property
    def _takes_nothing(self) -> bool:
        return self._drain.begun or self._hold.on

    def _drained(self, message: m.Drain) -> None:
        if not self._link.open or message.session != self._link.session:
            return
        if self._hold.take(message):
            if message.on:
                self._take_back()
            self._statements.demand_due = True
        self._notes += self._hold.say()

    def _take_back(self) -> None:
        """Give back what has not begun."""
        self._end(self._holdings.give_back())
        self._outbox.recall(self._holdings.recall())

    # --- The end -------------------------------------------------------------------------------

    def _begin_drain(self, now_ms: int) -> None:
        if self._drain.begun:
            return
        self._drain.begin(now_ms)
        self._take_back()
        self._statements.demand_due = True
        self._notes.append(e.Note("drain_began", dict(self._holdings.counts())))

    def _advance_drain(self, now_ms: int) -> bool:
        if self._drain.stop_due(now_ms):
            told, outcomes = self._holdings.stop(now_ms, self._drain.stop(now_ms))
            self._outbox.revoke(told)
            self._end(outcomes)
            self._notes.append(e.Note("attempts_stopped", {"count": len(told)}))
        held = not self._holdings.empty or len(self._evidence) > 0
        return self._drain.advance(
            now_ms, held=held, unrecorded=not self._keeping.safe_to_leave(open_=self._link.open)
        )

    # --- Effects -------------------------------------------------------------------------------

    def flush(self, now_ms: int) -> e.Effects:
        """Return what is to be done for all that happened since the last flush."""
        effects = e.Effects()
        self._expire(now_ms)
        self._give_up(now_ms)
        if self._link.deadline_ms not in (self._told_valid_ms, NEVER_MS):
            self._told_valid_ms = self._link.deadline_ms
            for connection in self._peers.serving:
                self._outbox.first(connection, m.Validity(self._told_valid_ms))
        handed = self._holdings.dispatch(now_ms)
        self._outbox.tasks(handed)
        self._end(self._holdings.unwanted())
        effects.stopped = self._drain.begun and self._advance_drain(now_ms)
        recording = self._drain.stage >= Stage.RECORDING
        effects.spool = self._keeping.work(now_ms, open_=self._link.open, recording=recording)
        effects.to_coordinator = self._to_coordinator(now_ms)
        if effects.stopped:
            self._say_goodbye(effects)
        effects.to_local = self._outbox.take()
        effects.close, self._close = self._close, []
        effects.reconnect, self._link.reconnect = self._link.reconnect, False
        effects.processes, self._of_processes = self._of_processes, []
        effects.ended = self._witness.take()
        effects.notes = self._notes + self._link.notes + self._spool.notes
        self._notes, self._link.notes, self._spool.notes = [], [], []
        return effects

    def _give_up(self, now_ms: int) -> None:
        told, outcomes = self._holdings.overdue(now_ms)
        self._outbox.revoke(told)
        self._end(outcomes)
        for connection, at_once in self._holdings.take_stuck().items():
            self._end_process(connection, at_once)
        for process in self._evidence.overdue(now_ms):
            self._of_processes.append(e.Stuck(process, at_once=True, why=_CUT_OFF))
        self._outbox.verdicts(self._submissions.give_up(now_ms))
        self._outbox.verdicts(self._submissions.to_spool(now_ms, open_=self._link.open))
        self._outbox.replies(self._questions.give_up(now_ms))
        if now_ms >= self._peers.due_ms:
            for connection in self._peers.overdue(now_ms):
                late = Refusal("malformed", "no ATTACH arrived in time")
                self._turn_away(now_ms, connection, late)

    def _end_process(self, connection: int, at_once: bool) -> None:
        process = self._evidence.process_of(connection)
        self._evidence.condemn(process)
        self._of_processes.append(e.Stuck(process, at_once))
        self._statements.touch(self._peers.handlers_of(connection))

    def _to_coordinator(self, now_ms: int) -> list[m.Message]:
        link = self._link
        if link.hello_due(now_ms):
            held = self._holdings.leases() + self._evidence.leases()
            return [link.hello(now_ms, held + self._unrecorded.leases())]
        if not link.open:
            return []
        messages = self._statements.messages(now_ms, link)
        messages += self._progress.outgoing(now_ms)
        messages += self._unrecorded.outgoing(now_ms)
        messages += self._submissions.outgoing(now_ms)
        messages += self._questions.outgoing(now_ms, self._spool.settled_to)
        return messages

    def _say_goodbye(self, effects: e.Effects) -> None:
        if self._link.open:
            effects.to_coordinator.append(m.Goodbye("stopping"))
        for connection in self._peers.all:
            self._outbox.last(connection, m.Goodbye("stopping"))
        self._notes.append(e.Note("drain_ended", {"unrecorded": len(self._unrecorded)}))

    def next_due_ms(self) -> int | None:
        """Return when ``flush`` is to be called at the latest; None when only events matter."""
        due_ms = min(
            self._link.due_ms,
            self._holdings.due_ms,
            self._evidence.due_ms,
            self._submissions.due_ms,
            self._questions.due_ms,
            self._progress.due_ms if self._link.open else NEVER_MS,
            self._peers.due_ms,
            self._drain.due_ms,
            self._keeping.due_ms(self._submissions.spool_due_ms, open_=self._link.open),
        )
        return None if due_ms >= NEVER_MS else due_ms

    def facts(self, now_ms: int) -> dict[str, int | str]:
        """Return what there is to know about this sidecar, for people and probes."""
        return {
            "sidecar": self._identity.sidecar,
            "service": self._identity.service,
            "software": self._identity.software,
            "coordinator": self._identity.coordinator,
            **self._link.facts(now_ms),
            "draining": int(self._drain.begun),
            "drained_by": self._hold.why,
            **self._peers.facts(),
            **self._holdings.counts(),
            **self._unrecorded.facts(),
            "outcomes_late": self._holdings.late,
            "progress_kept": len(self._progress),
            "tasks_granted": self._asked.granted_total,
            "round_trip_us": int(1000 * self._asked.round_trip_ms),
            "submissions_waiting": len(self._submissions),
            "submissions_answered": self._submissions.answered,
            "submissions_given_up": self._submissions.given_up,
            **self._spool.facts(),
            "questions_waiting": len(self._questions),
        }
