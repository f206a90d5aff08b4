"""What an HTTP connection asks of the core, and who waits for which answer."""

from collections import deque
from collections.abc import Callable

from protocol import version
from protocol.messages import (
    Accepted,
    Answer,
    Attach,
    Batch,
    Cancel,
    Cancellation,
    Inspect,
    Inspected,
    Message,
    Query,
    Question,
    Reply,
    Submit,
    Verdict,
)
from sidecar.gateway.peer import Owner

_ATTACH = Attach(version.VERSION_MIN, version.VERSION_MAX, "", "http", [], [])

Facts = dict[str, int | str]


class Caller:
    """A peer that only asks: an app without handlers."""

    def __init__(self, number: int, owner: Owner) -> None:
        self.number = number
        self._owner = owner
        self._request = 0
        self._verdicts: dict[int, Callable[[Verdict], None]] = {}
        self._replies: dict[int, Callable[[Reply], None]] = {}
        self._facts: deque[Callable[[Facts], None]] = deque()

    def attach(self) -> None:
        """Say that this is an app."""
        self._tell(_ATTACH)

    def submit(self, tasks: bytes, *, spool: bool, done: Callable[[Verdict], None]) -> None:
        """Submit an encoded batch."""
        self._request += 1
        self._verdicts[self._request] = done
        self._tell(Submit([Batch(self._request, tasks, spool)]))

    def ask(
        self, task_id: bytes, *, wait_ms: int, revision: int, done: Callable[[Reply], None]
    ) -> None:
        """Ask for the status of a task."""
        self._request += 1
        self._replies[self._request] = done
        self._tell(Query([Question(self._request, task_id, wait_ms, revision)]))

    def cancel(self, task_id: bytes, reason: str, *, done: Callable[[Reply], None]) -> None:
        """Cancel a task."""
        self._request += 1
        self._replies[self._request] = done
        self._tell(Cancel([Cancellation(self._request, task_id, reason)]))

    def inspect(self, done: Callable[[Facts], None]) -> None:
        """Ask the sidecar about itself."""
        self._facts.append(done)
        self._tell(Inspect())

    def answer(self, message: Message) -> None:
        """Give an answer to who waits for it."""
        match message:
            case Accepted(verdicts):
                for verdict in verdicts:
                    self._verdicts.pop(verdict[0])(verdict)
            case Answer(replies):
                for reply in replies:
                    self._replies.pop(reply[0])(reply)
            case Inspected(facts):
                self._facts.popleft()(facts)
            case _:
                pass  # ATTACHED; nothing else comes to an app.

    def _tell(self, message: Message) -> None:
        raise NotImplementedError
