"""What attempts came to, told one by one to whoever makes traces of them.

Where nobody listens every call returns at once: nothing here is done for each task then.
"""

from collections.abc import Iterable, Mapping

from protocol.messages import Failure, Outcome
from sidecar.core.events import Ended
from sidecar.core.lane import Key

NOT_SEEN = -1


class Witness:
    """The ends of attempts since the last ``take``.

    Args:
        listens: Whether anybody wants to know.
    """

    def __init__(self, *, listens: bool = False) -> None:
        self.listens = listens
        self._began_ms: Mapping[Key, int] = {}
        self._ended: list[Ended] = []

    def saw(self, began_ms: Mapping[Key, int]) -> None:
        """Take when attempts began of which a service tells; after it has, nobody knows."""
        self._began_ms = began_ms

    def ended(self, outcomes: Iterable[Outcome]) -> None:
        """Take what leases came to."""
        if not self.listens:
            return
        for task_id, token, kind, run_us, value in outcomes:
            began_ms = self._began_ms.get((task_id, token), NOT_SEEN)
            error_type = value.error_type if isinstance(value, Failure) else ""
            self._ended.append(Ended(task_id, token, kind, error_type, run_us, began_ms))

    def lost(self, keys: Iterable[Key], began_ms: Mapping[Key, int], reason: str) -> None:
        """Take leases that end without an outcome."""
        for key in keys:
            self._ended.append(Ended(*key, None, reason, 0, began_ms.get(key, NOT_SEEN)))

    def take(self) -> list[Ended]:
        """Return what has ended, and forget it."""
        ended, self._ended = self._ended, []
        return ended
