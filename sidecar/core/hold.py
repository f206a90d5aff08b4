"""An operator's drain of this sidecar, as the coordinator tells it.

While it holds nothing is asked for, and what has not begun is given back; everything else goes on.
A WELCOME ends it, and a DRAIN behind it begins it again: so the state is that of the session,
whatever was lost before.
"""

from protocol.messages import Drain
from sidecar.core.events import Note


class Hold:
    """Whether this sidecar is drained, and by whom."""

    def __init__(self) -> None:
        self.on = False
        self.why = ""
        """Who has drained it and why; empty while it is not drained."""
        self._said = False

    def restart(self) -> None:
        """Forget what was told: a new session has opened."""
        self.on = False
        self.why = ""

    def take(self, message: Drain) -> bool:
        """Take what the coordinator tells; return whether it is something new."""
        changed = message.on != self.on
        self.on = message.on
        self.why = message.why or "an operator" if message.on else ""
        return changed

    def say(self) -> list[Note]:
        """Return what to say: once when it has begun, once when it is over.

        Not to be asked between a WELCOME and the DRAIN that may be behind it.
        """
        if self.on == self._said:
            return []
        self._said = self.on
        return [Note("drained", {"by": self.why}) if self.on else Note("undrained")]
