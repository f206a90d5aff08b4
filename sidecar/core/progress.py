"""What attempts tell while they go on: merged, paced, told again in every new session.

Of each lease the latest is kept, and what of it the coordinator has not been sent yet. That goes at
most once a second; a checkpoint goes before the outcome of its attempt, whatever the pace.

    clean --told, the last was sent a second ago--> ready --sent--> clean
      +-----told before that--> later --a second after the last--^
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protocol.messages import Outcome, OutcomeKind, Progress, Update
from sidecar.core.lane import Key
from sidecar.core.parcels import parcels, update_bytes
from sidecar.core.terms import NEVER_MS

PACE_MS = 1_000
"""The least time between two updates of one lease."""
_LOOK_MS = 50
"""Updates that wait for their second are looked through at most this often."""
_LAST = (OutcomeKind.SUCCESS, OutcomeKind.FATAL)


@dataclass(slots=True)
class _Told:
    """What was told of one lease."""

    whole: Update
    """All that holds now."""
    fresh: Update | None = None
    """What of it has not been sent."""
    sent_ms: int = -PACE_MS


class ProgressKeeping:
    """The latest progress of all leases that have told any.

    Invariant: what is in ``_ready`` or ``_later`` has something fresh, and is in one of them only.
    """

    def __init__(self) -> None:
        self._told: dict[Key, _Told] = {}
        self._ready: dict[Key, None] = {}
        self._later: dict[Key, int] = {}
        """When each may be sent."""
        self._over: set[Key] = set()
        """Leases that have an outcome, and a checkpoint for the next attempt."""
        self.due_ms = NEVER_MS
        """Not later than when the next may be sent, but for ``_LOOK_MS``."""
        self.late = 0
        """Updates of leases that were not live."""

    def __len__(self) -> int:
        return len(self._told)

    def take(self, now_ms: int, updates: list[Update], holds: Callable[[Key], bool]) -> None:
        """Take what a service tells; ``holds`` tells whether a lease is live there."""
        for update in updates:
            key = update[:2]
            if not holds(key):
                self.late += 1
                continue
            told = self._told.get(key)
            if told is None:
                told = self._told[key] = _Told(update)
            else:
                told.whole = _merged(told.whole, update)
            told.fresh = update if told.fresh is None else _merged(told.fresh, update)
            self._queue(now_ms, key, told)

    def _queue(self, now_ms: int, key: Key, told: _Told) -> None:
        if key in self._ready or key in self._later:
            return
        due_ms = told.sent_ms + PACE_MS
        if due_ms <= now_ms:
            self._ready[key] = None
        else:
            self._later[key] = due_ms
            self.due_ms = min(self.due_ms, due_ms)

    def ended(self, outcomes: Iterable[Outcome]) -> None:
        """Take note that leases have an outcome: their checkpoints are sent before it."""
        if not self._told:
            return
        for outcome in outcomes:
            key = outcome[:2]
            told = self._told.get(key)
            if told is None:
                continue
            if outcome[2] in _LAST or told.whole.checkpoint is None:
                self.drop([key])
                continue
            self._over.add(key)
            if self._later.pop(key, None) is not None:
                self._ready[key] = None

    def recorded(self, unrecorded: Callable[[], Iterable[Key]]) -> None:
        """Forget leases whose outcome is recorded; ``unrecorded`` returns the others."""
        if self._over:
            left = {(key[0], key[1]) for key in unrecorded()}
            self.drop(self._over - left)

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget leases that are not ours any more."""
        if not self._told:
            return
        for key in list(keys):
            self._told.pop(key, None)
            self._ready.pop(key, None)
            self._later.pop(key, None)
            self._over.discard(key)

    def drop_all(self) -> None:
        """Forget everything."""
        self.drop(list(self._told))

    def resend(self) -> None:
        """Tell everything again: a new session has opened."""
        for told in self._told.values():
            told.fresh = told.whole
        self._ready = dict.fromkeys(self._told)
        self._later.clear()
        self.due_ms = NEVER_MS

    def outgoing(self, now_ms: int) -> list[Progress]:
        """Return the messages to send now."""
        if now_ms >= self.due_ms:
            self._look(now_ms)
        if not self._ready:
            return []
        updates: list[Update] = []
        for key in self._ready:
            told = self._told[key]
            assert told.fresh is not None, "what is ready has something fresh"
            updates.append(told.fresh)
            told.fresh, told.sent_ms = None, now_ms
        self._ready.clear()
        return [Progress(part) for part in parcels(updates, update_bytes)]

    def _look(self, now_ms: int) -> None:
        for key in [key for key, due_ms in self._later.items() if due_ms <= now_ms]:
            del self._later[key]
            self._ready[key] = None
        first_ms = min(self._later.values(), default=NEVER_MS)
        self.due_ms = first_ms if first_ms == NEVER_MS else max(first_ms, now_ms + _LOOK_MS)


def _merged(older: Update, newer: Update) -> Update:
    return Update(
        newer.id,
        newer.token,
        older.permille if newer.permille < 0 else newer.permille,
        newer.note or older.note,
        older.checkpoint if newer.checkpoint is None else newer.checkpoint,
    )
