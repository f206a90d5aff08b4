"""What a client has under way with its sidecar: sent once per loop iteration, kept until answered.

Joins submissions, questions and the link. Belongs to one event loop; the client above it makes a
new one for another loop.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

from protocol import limits, local
from protocol.messages import (
    Accepted,
    Answer,
    Attach,
    Batch,
    Inspect,
    Inspected,
    Message,
    Submit,
)
from protocol.version import SOFTWARE, VERSION_MAX, VERSION_MIN
from sidecar.sdk.connection import Connection
from sidecar.sdk.errors import PillionError, Unavailable
from sidecar.sdk.link import LOG, SAY_AGAIN_S, Link
from sidecar.sdk.questions import Asked, Questions
from sidecar.sdk.submissions import Call, Submissions

SAY_AFTER_S = 0.5
"""How long a submit is tried again without a word."""

_log = LOG.getChild("client")
Facts = dict[str, int | str]


class Exchange:
    """One client's requests on one loop.

    The link is kept only while something is asked for: an idle client that has lost its sidecar
    costs nothing, and dials again with its next request.
    """

    def __init__(self, path: str, *, may_spool: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.path = path
        self.submissions = Submissions(may_spool=may_spool)
        self.questions = Questions()
        self._inspections: deque[asyncio.Future[Facts]] = deque()
        self._inspections_unsent = 0
        self._link = Link(path, self, "client")
        self._dialling: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Event = asyncio.Event()
        self._said_at: float | None = None
        """When it was last said what submits wait for."""

    @property
    def trouble(self) -> str:
        """Why there is no connection, or an empty text."""
        return self._link.trouble

    def submit(self, call: Call) -> None:
        """Send a call with whatever else this loop iteration brings."""
        self.submissions.add(call)
        self._wake()
        if self._timer is None:
            self._timer = self.loop.call_at(call.deadline, self._tick)

    def ask(self, asked: Asked) -> int:
        """Send a question likewise; return its number."""
        request = self.questions.add(asked)
        self._wake()
        return request

    def inspect(self) -> asyncio.Future[Facts]:
        """Ask the sidecar about itself."""
        future: asyncio.Future[Facts] = self.loop.create_future()
        self._inspections.append(future)
        self._inspections_unsent += 1
        self._wake()
        return future

    async def has_room(self, bytes_max: int) -> None:
        """Wait until fewer than ``bytes_max`` wait to be sent."""
        while self.submissions.bytes_waiting >= bytes_max:
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        """Close the connection; what has no answer fails."""
        if self._timer is not None:
            self._timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        self._fail(Unavailable("the client was closed before the answer came", sent=True))

    # What the link tells.

    def attach(self) -> Attach:
        """Introduce an app that only submits."""
        return Attach(VERSION_MIN, VERSION_MAX, "", f"pillion-python {SOFTWARE}", [], [])

    def attached(self, connection: Connection) -> None:
        """Send again all that has no answer."""
        self._connection = connection
        self.questions.reconnected()
        self._inspections_unsent = len(self._inspections)
        again = [*_frames(self.submissions.take_again())]
        if again:
            connection.write(b"".join(again))
        self._flush()

    def received(self, messages: list[Message]) -> None:
        """Take answers."""
        now = self.loop.time()
        refused = False
        for message in messages:
            match message:
                case Accepted(verdicts):
                    for verdict in verdicts:
                        self.submissions.settle(verdict, now)
                        refused = refused or verdict.code is not None
                case Answer(replies):
                    for reply in replies:
                        self.questions.settle(reply, now)
                case Inspected(facts):
                    self._inspected(facts)
                case _:
                    _log.warning("unexpected %s from the sidecar", type(message).__name__)
        if refused:
            self._say(now)
            self._tick()  # What is to be sent later needs the timer.
        self._wake()

    def _say(self, now: float) -> None:
        """Say what a submit waits for that was told to come again, once it waits for long."""
        if self._said_at is not None and now - self._said_at < SAY_AGAIN_S:
            return
        waiting = self.submissions.told_to_wait(now - SAY_AFTER_S)
        if waiting is not None:
            self._said_at = now
            _log.warning("a submit waits and is tried again: %s [%s]", *waiting)

    def drained(self) -> None:
        """Go on sending."""
        self._flush()

    def lost(self, reason: str) -> None:
        """Keep everything for the next connection."""
        self._connection = None

    def wanted(self) -> bool:
        """Dial while something is asked for."""
        while self._inspections and self._inspections[0].done():
            self._inspections.popleft()
        return self.submissions.pending or self.questions.pending or bool(self._inspections)

    def _wake(self) -> None:
        if self._connection is None:
            if self._dialling is None or self._dialling.done():
                self._dialling = self.loop.create_task(self._dial())
        elif not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)

    async def _dial(self) -> None:
        try:
            await self._link.run()
        except PillionError as error:
            self._fail(error)

    def _fail(self, error: PillionError) -> None:
        self.submissions.fail(error)
        self.questions.fail(error)
        while self._inspections:
            future = self._inspections.popleft()
            if not future.done():
                future.set_exception(error)
        self._room.set()

    def _flush(self) -> None:
        self._flush_due = False
        connection = self._connection
        if connection is None or not connection.writable:
            return
        now = self.loop.time()
        batches = self.submissions.take_due(now) + self.submissions.take()
        data = [*_frames(batches)]
        if self.questions.unsent:
            data += [local.frame(message) for message in self.questions.take(now)]
        data += [local.frame(Inspect())] * self._inspections_unsent
        self._inspections_unsent = 0
        if data:
            connection.write(b"".join(data))
        if not self._room.is_set():
            self._room.set()

    def _tick(self) -> None:
        """Fail what is overdue, send what is due, and set the timer to the next instant."""
        if self._timer is not None:
            self._timer.cancel()
        next_at = self.submissions.expire(self.loop.time())
        self._timer = None if next_at is None else self.loop.call_at(next_at, self._tick)
        self._room.set()
        if self._connection is not None:
            self._flush()

    def _inspected(self, facts: Facts) -> None:
        if self._inspections:
            future = self._inspections.popleft()
            if not future.done():
                future.set_result(facts)


def _frames(batches: list[Batch]) -> Iterator[bytes]:
    """Yield frames of SUBMIT, each within the limit of one message."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        if group and size + len(batch.tasks) > limits.BATCH_BYTES_MAX:
            yield local.frame(Submit(group))
            group, size = [], 0
        group.append(batch)
        size += len(batch.tasks)
    if group:
        yield local.frame(Submit(group))
