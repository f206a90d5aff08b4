"""A sidecar with its app that says one thing at a time, and remembers what it was promised.

It goes on after a restart as the protocol wants it: it resumes its session, names what it holds,
and sends again what was not answered.
"""

from collections.abc import Mapping

import zmq

from protocol import codec
from protocol import messages as m
from protocol.submission import encode_batch
from tests.coordinator.core.audit import Audit
from tests.support.builders import a_hello, a_submission, task_id

ANSWER_MS = 15_000
IN_FLIGHT_MS = 20
"""How long to wait for what a coordinator that has ended may have sent before."""
HANDLER = "email.send"
BATCHES, BATCH = 4, 2
TASKS = {
    task_id(n): a_submission(n, payload=b"%d" % n if n % 3 else b"x" * 3_000)
    for n in range(1, BATCHES * BATCH + 1)
}
NUMBERS = {id_: number for number, id_ in enumerate(TASKS)}


class Ended(Exception):
    """Raised when the coordinator has ended, and nothing that it has sent is left."""


class Connection:
    """One connection to a coordinator.

    Args:
        address: Where it listens.
        ended: A descriptor that is readable once the coordinator has ended.
    """

    def __init__(self, address: str, ended: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(ended, zmq.POLLIN)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, message: m.Message) -> None:
        """Send a message."""
        self._socket.send(codec.encode(message))

    def receive(self) -> m.Message:
        """Wait for a message.

        Raises:
            Ended: None will come.
        """
        ready = dict(self._poller.poll(ANSWER_MS))
        assert ready, "the coordinator neither answers nor ends"
        if self._socket not in ready and not self._socket.poll(IN_FLIGHT_MS):
            raise Ended
        return codec.decode(self._socket.recv())


class Client:
    """What the sidecar knows; outlives connections and coordinators."""

    def __init__(self) -> None:
        submissions = list(TASKS.values())
        self.plan = [submissions[i : i + BATCH] for i in range(0, len(submissions), BATCH)]
        self.accepted: set[bytes] = set()
        self.succeeded: set[bytes] = set()
        self.problems: list[str] = []
        self._unanswered: dict[int, list[m.Submission]] = {}
        self._unrecorded: dict[int, list[m.Outcome]] = {}
        self._held: dict[bytes, m.GrantedTask] = {}
        self._tokens: dict[bytes, int] = {}
        self._session = 0

    def run(self, connection: Connection) -> None:
        """Go on until all tasks have succeeded.

        Raises:
            Ended: The coordinator has ended before.
        """
        self._greet(connection)
        while len(self.succeeded) < len(TASKS):
            if self._held:
                self._report(connection)
            elif self.plan:
                self._submit(connection)
            else:
                self._take(connection.receive())

    def _greet(self, connection: Connection) -> None:
        held = [m.Lease(task.id, task.token) for task in self._held.values()]
        held += [m.Lease(*o[:2]) for outcomes in self._unrecorded.values() for o in outcomes]
        self._exchange(connection, a_hello(session=self._session, held=held), m.Welcome)
        connection.send(m.Handlers([m.Declaration(HANDLER, {})]))
        for number, outcomes in list(self._unrecorded.items()):
            self._exchange(connection, m.Outcomes(number, outcomes), m.Recorded)
        for request, tasks in list(self._unanswered.items()):
            batch = m.Batch(request, encode_batch(tasks))
            self._exchange(connection, m.Submit([batch]), m.Accepted)
        connection.send(m.Demand([m.Limit(HANDLER, 100)]))

    def _submit(self, connection: Connection) -> None:
        request = len(self.plan)
        self._unanswered[request] = tasks = self.plan.pop()
        batch = m.Batch(request, encode_batch(tasks))
        self._exchange(connection, m.Submit([batch]), m.Accepted)

    def _report(self, connection: Connection) -> None:
        number = 1 + sum(self._tokens.values())
        self._unrecorded[number] = [_outcome(task) for task in self._held.values()]
        self._held.clear()
        self._exchange(connection, m.Outcomes(number, self._unrecorded[number]), m.Recorded)

    def _exchange(
        self, connection: Connection, message: m.Message, answer: type[m.Message]
    ) -> None:
        connection.send(message)
        while True:
            received = connection.receive()
            self._take(received)
            if isinstance(received, answer):
                return

    def _take(self, message: m.Message) -> None:
        match message:
            case m.Welcome(session=session, resumed=resumed):
                if self._session and not resumed:
                    self.problems.append("a session was not resumed")
                self._session = session
            case m.Accepted(verdicts):
                for verdict in verdicts:
                    self._verdict(verdict)
            case m.Grant(groups=groups):
                for _, tasks in groups:
                    for task in tasks:
                        self._granted(task)
            case m.Recorded():
                self._recorded(message)
            case _:
                self.problems.append(f"unexpected: {message}")

    def _verdict(self, verdict: m.Verdict) -> None:
        if verdict.code is not None or verdict.rejections:
            self.problems.append(f"a submission was refused: {verdict}")
        self.accepted.update(task.id for task in self._unanswered.pop(verdict.request))

    def _granted(self, task: m.GrantedTask) -> None:
        if task.id in self.succeeded:
            self.problems.append(f"{task.id.hex()} is granted, and has succeeded before")
        if task.token <= self._tokens.get(task.id, 0):
            self.problems.append(f"{task.id.hex()} is granted with an old token")
        if task.payload != TASKS[task.id].payload:
            self.problems.append(f"{task.id.hex()} is granted with another payload")
        self._tokens[task.id] = task.token
        self._held[task.id] = task

    def _recorded(self, message: m.Recorded) -> None:
        refused = dict(message.exceptions)
        for place, outcome in enumerate(self._unrecorded.pop(message.number)):
            if outcome.kind is not m.OutcomeKind.SUCCESS:
                continue  # One that is sent again is refused: its lease has ended.
            if place in refused:
                self.problems.append(f"a success was not taken: {refused[place]}")
            self.succeeded.add(outcome.id)

    def check(self, pairs: Mapping[bytes, bytes]) -> list[str]:
        """Return what is wrong, by what is in the store now and by what was promised."""
        audit = Audit(pairs)
        problems = [*self.problems, *audit.problems()]
        problems += [
            f"{i.hex()} was accepted, and is lost" for i in self.accepted - set(audit.tasks)
        ]
        problems += [f"{i.hex()} was never submitted" for i in set(audit.tasks) - set(TASKS)]
        for id_ in self.succeeded & set(audit.tasks):
            if audit.tasks[id_].state is not m.State.SUCCEEDED:
                problems.append(f"{id_.hex()} had succeeded; it is {audit.tasks[id_].state.name}")
        return problems


def _outcome(task: m.GrantedTask) -> m.Outcome:
    kind, value = m.OutcomeKind.SUCCESS, None
    if task.delivery == 1 and NUMBERS[task.id] % 4 == 0:
        kind, value = m.OutcomeKind.RETRY, m.Failure("ValueError", "again", "", 1)
    elif task.delivery == 1 and NUMBERS[task.id] % 4 == 1:
        kind = m.OutcomeKind.RETURNED
    return m.Outcome(task.id, task.token, kind, 1_000, value)
