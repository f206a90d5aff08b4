"""What is said of handlers, of demand, and of the attempts that go on; to the coordinator."""

from collections.abc import Callable, Iterable

from protocol.messages import Demand, Handlers, Message
from sidecar.core.demand import Demand as Asked
from sidecar.core.holdings import Holdings
from sidecar.core.link import Link
from sidecar.core.peers import Peers


class Statements:
    """What is to be stated, and stated again.

    Args:
        peers: Who has declared which handlers.
        holdings: What is held, and what there is room for.
        asked: What was stated before.
        takes_nothing: Whether nothing is to be asked for.
    """

    def __init__(
        self,
        peers: Peers,
        holdings: Holdings,
        asked: Asked,
        takes_nothing: Callable[[], bool],
    ) -> None:
        self._peers = peers
        self._holdings = holdings
        self._asked = asked
        self._takes_nothing = takes_nothing
        self._touched: dict[str, None] = {}
        """Handlers whose demand may have changed; in order, so that one run is like the next."""
        self.handlers_due = False
        """Whether the handlers are to be stated again."""
        self.demand_due = False
        """Whether the whole demand is to be stated again."""

    def touch(self, handlers: Iterable[str]) -> None:
        """Note that the demand for handlers may have changed."""
        for handler in handlers:
            self._touched[handler] = None

    def messages(self, now_ms: int, link: Link) -> list[Message]:
        """Return the messages to send now, in an open session."""
        messages: list[Message] = []
        if self.handlers_due:
            messages.append(Handlers(self._peers.declarations()))
        if link.heartbeat_due(now_ms):
            running = self._holdings.begun_since(now_ms, link.heartbeat_sent_ms)
            limits = self._asked.state(self._totals(now_ms, self._served()))
            messages.append(link.heartbeat(now_ms, limits, running))
        elif self.demand_due:
            limits = self._asked.state(self._totals(now_ms, self._served()))
            if limits:
                messages.append(Demand(limits))
        elif self._touched:
            limits = self._asked.changes(self._totals(now_ms, self._touched))
            if limits:
                messages.append(Demand(limits))
        self.handlers_due = self.demand_due = False
        self._touched.clear()
        return messages

    def _served(self) -> list[str]:
        return [d.handler for d in self._peers.declarations()]

    def _totals(self, now_ms: int, handlers: Iterable[str]) -> list[tuple[str, int]]:
        if self._takes_nothing():
            return [(h, self._asked.nothing_more(h)) for h in handlers]
        held = self._holdings
        return [
            (h, self._asked.total(now_ms, h, held.room(h), ahead=not held.falling(h)))
            for h in handlers
        ]
