"""What happens to a task, as it happens: server-sent events, one for each change of its status.

Between changes the question waits at the coordinator; when it has waited its time without one, a
comment goes out, so that whoever stands between sees that the connection is used.
"""

from protocol.messages import Reply
from sidecar.http.exchange import EVENTS, Exchange
from sidecar.http.status import document
from sidecar.http.tasks import read_id, unanswered

COMMENT_MS = 15_000
_HEADERS = {"Cache-Control": "no-store"}


def follow(exchange: Exchange) -> None:
    """Tell every change: ``GET /v1/tasks/{id}/events``."""
    seen = exchange.request.headers.get("last-event-id", "")
    revision = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 19 else -1
    _Stream(exchange, read_id(exchange), revision).ask(wait_ms=0)


class _Stream:
    """One client that follows one task."""

    def __init__(self, exchange: Exchange, task_id: bytes, revision: int) -> None:
        self._exchange = exchange
        self._id = task_id
        self._revision = revision

    def ask(self, *, wait_ms: int) -> None:
        """Ask for the status, now or when it has changed."""
        self._exchange.peer.ask(self._id, wait_ms=wait_ms, revision=self._revision, done=self._told)

    def _told(self, reply: Reply) -> None:
        exchange, status = self._exchange, reply.status
        if exchange.done:
            return
        if status is None:
            if exchange.started:
                exchange.finish()  # The client comes again with the last event that it has seen.
            else:
                unanswered(exchange, reply).answer(exchange)
            return
        changed = status.revision != self._revision
        if not exchange.started:
            if status.state.terminal and not changed:
                exchange.respond(204)  # It has seen the end: this makes it stop asking.
                return
            exchange.start(200, EVENTS, _HEADERS)
        self._revision = status.revision
        if changed:
            exchange.write(
                b"id: %d\nevent: status\ndata: %b\n\n" % (status.revision, document(status))
            )
        else:
            exchange.write(b": unchanged\n\n")
        if status.state.terminal:
            exchange.finish()
        elif not exchange.done:
            self.ask(wait_ms=COMMENT_MS)
