"""The association with the coordinator: greeting, session, heartbeats and the deadline of leases.

      DOWN --link up--> UP --HELLO--> GREETING --WELCOME--> OPEN
        ^                ^                |                   |
        |                +----refused-----+----session gone---+
        +--link down, silence (from any phase)

The deadline does not depend on the phase: leases outlive a broken link until it passes. It is
counted from the *sending* of the last heartbeat or HELLO that was answered, so that this side
always gives up before the coordinator does. A HELLO that follows comes a margin later: it does not
name what ran out, which is then granted again at once, and must have ended. Only one HELLO is ever
unanswered on one connection; patience over one ends in a fresh connection, where no late answer can
be taken for another's.
"""

from enum import Enum

from protocol import version
from protocol.errors import CODES, Code
from protocol.messages import Beat, Grant, Heartbeat, Hello, Lease, Limit, Refused, Running, Welcome
from sidecar.core.events import Note
from sidecar.core.terms import NEVER_MS, Identity

MARGIN_MS_MIN = 250
BACKOFF_MS_MIN = 500
BACKOFF_MS_MAX = 10_000
PATIENCE_MS_MIN = 5_000
"""How long a HELLO may stay unanswered: a coordinator that starts may be reading its store."""
PATIENCE_MS_MAX = 30_000
_NOT_THERE = "nothing answers at the coordinator's address"


class Phase(Enum):
    """How far the association has come; see the drawing above."""

    DOWN = "down"
    UP = "up"
    GREETING = "greeting"
    OPEN = "open"


class Link:
    """The one association of this process with the coordinator.

    Invariant: ``deadline_ms`` is ``NEVER_MS`` exactly when no lease may be held.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.phase = Phase.DOWN
        self.session = 0
        self.store: bytes | None = None
        self.epoch = 0
        self.timeout_ms = 0
        self.deadline_ms = NEVER_MS
        self.reconnect = False
        """A fresh connection is wanted; whoever acts on it sets it back."""
        self.notes: list[Note] = []
        self.trouble = _NOT_THERE
        """Why there is no session, as far as it is known; empty while there is one."""
        self._grant_number = 0
        self._hello_due_ms = NEVER_MS
        self._hello_sent_ms = 0
        self._hello_spoiled = False
        self._ending_until_ms = 0
        """Until when attempts may still be ending whose leases are void."""
        self._answer_due_ms = NEVER_MS
        self._heartbeat_due_ms = NEVER_MS
        self._heartbeat_sent_ms = 0
        self._backoff_ms = BACKOFF_MS_MIN
        self._patience_ms = PATIENCE_MS_MIN

    @property
    def open(self) -> bool:
        """Whether messages other than HELLO may be sent."""
        return self.phase is Phase.OPEN

    @property
    def due_ms(self) -> int:
        """When something happens here by itself."""
        return min(
            self.deadline_ms, self._hello_due_ms, self._answer_due_ms, self._heartbeat_due_ms
        )

    # --- The connection ------------------------------------------------------------------------

    def up(self, now_ms: int) -> None:
        """Begin to greet: the connection is fresh."""
        self._leave("the connection was replaced")
        self.reconnect = False
        self._greet_at(now_ms)

    def down(self) -> None:
        """Take note that the connection broke."""
        self._leave("the connection broke")
        self.trouble = _NOT_THERE
        self.phase = Phase.DOWN

    def _leave(self, reason: str) -> None:
        if self.open:
            self.notes.append(Note("session_lost", {"session": self.session, "reason": reason}))
        self._hello_due_ms = self._answer_due_ms = self._heartbeat_due_ms = NEVER_MS

    def _greet_at(self, at_ms: int) -> None:
        self.phase = Phase.UP
        self._hello_due_ms = max(at_ms, self._ending_until_ms)
        self._answer_due_ms = self._heartbeat_due_ms = NEVER_MS

    def _replace(self, reason: str) -> None:
        self._leave(reason)
        self.trouble = reason
        self.phase = Phase.DOWN
        self.reconnect = True

    # --- From the coordinator ------------------------------------------------------------------

    def welcome(self, now_ms: int, message: Welcome) -> bool:
        """Take a WELCOME; return whether a session is open by it.

        A welcome to a HELLO that named leases which ran out since is not used: the coordinator
        would believe them held for ever. A new HELLO says the truth, a margin later. Nor is one
        used that came so late that its session would be over at once.
        """
        if self.phase is not Phase.GREETING:
            return False
        problem = self._unfit(message)
        if problem is not None:
            self.notes.append(Note("welcome_refused", {"reason": problem}))
            self._back_off(now_ms, 0, problem)
            return False
        self.session = message.session
        self.store = message.store
        self.epoch = message.epoch
        self.timeout_ms = message.timeout_ms
        self._answer_due_ms = NEVER_MS
        if self._hello_spoiled or now_ms >= self._deadline_after(self._hello_sent_ms):
            self._greet_at(now_ms + self._margin_ms())
            return False
        self.phase = Phase.OPEN
        self.trouble = ""
        self._grant_number = 0
        self._backoff_ms = BACKOFF_MS_MIN
        self._patience_ms = PATIENCE_MS_MIN
        self._renew(now_ms, self._hello_sent_ms)
        self._heartbeat_sent_ms = 0  # A coordinator that was away knows of nothing that runs.
        self._heartbeat_due_ms = max(now_ms, self._hello_sent_ms + self.timeout_ms // 5)
        self.notes.append(
            Note(
                "session_opened",
                {
                    "session": message.session,
                    "resumed": int(message.resumed),
                    "lost": len(message.lost),
                    "timeout_ms": message.timeout_ms,
                    "coordinator_software": message.software,
                },
            )
        )
        return True

    def _unfit(self, message: Welcome) -> str | None:
        if not version.VERSION_MIN <= message.version <= version.VERSION_MAX:
            return f"protocol version {message.version} is not spoken here"
        if message.store == self.store and message.epoch < self.epoch:
            return (
                f"epoch {message.epoch} is older than {self.epoch}, which was seen before: "
                "another coordinator has taken the store over"
            )
        return None

    def beat(self, now_ms: int, message: Beat) -> None:
        """Take the answer to a heartbeat: renew, and find out whether a grant was lost."""
        if not self.open or message.session != self.session or message.clock_ms > now_ms:
            return
        self._renew(now_ms, message.clock_ms)
        if message.grant_number > self._grant_number:
            self._resume(now_ms, "a grant was lost on the way")

    def takes(self, now_ms: int, message: Grant) -> bool:
        """Tell whether a grant is to be taken: of this session, and the next in number."""
        if not self.open or message.session != self.session:
            return False
        if message.number <= self._grant_number:
            return False
        if message.number > self._grant_number + 1:
            self._resume(now_ms, "a grant was lost on the way")
            return False
        self._grant_number = message.number
        return True

    def refused(self, now_ms: int, message: Refused) -> None:
        """Take a refusal: of the HELLO, of the session, or of one message only."""
        facts = CODES.get(message.code)
        if message.code == Code.UNKNOWN_SESSION:
            # While greeting, it answers something sent before the HELLO.
            if self.open:
                self._resume(now_ms, "the coordinator does not know it")
            return
        note = Note("refused", {"code": message.code, "detail": message.detail})
        if self.phase is Phase.GREETING or (
            self.open and (facts is None or not facts.session_survives)
        ):
            self.notes.append(note)
            self._back_off(now_ms, message.retry_after_ms, f"{message.code}: {message.detail}")
        elif self.open:
            self.notes.append(note)

    def _resume(self, now_ms: int, reason: str) -> None:
        self._leave(reason)
        self._greet_at(now_ms)

    def _back_off(self, now_ms: int, at_least_ms: int, trouble: str) -> None:
        self._leave("refused")
        self.trouble = trouble
        self._greet_at(now_ms + max(self._backoff_ms, at_least_ms))
        self._backoff_ms = min(2 * self._backoff_ms, BACKOFF_MS_MAX)

    # --- Time ----------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> bool:
        """Let time pass; return True once when the deadline has: all leases are void."""
        if now_ms >= self._answer_due_ms:
            if self.open:
                self._replace("the coordinator is silent")
            else:
                self._patience_ms = min(2 * self._patience_ms, PATIENCE_MS_MAX)
                self._replace("the coordinator does not answer HELLO")
        if now_ms < self.deadline_ms:
            return False
        self.deadline_ms = NEVER_MS
        self._hello_spoiled = True
        # The coordinator's own deadline may be far: what a HELLO does not name it grants at once.
        self._ending_until_ms = now_ms + self._margin_ms() + self._margin_ms() // 4
        if self.phase is Phase.UP:
            self._greet_at(self._hello_due_ms)
        if self.open:
            self._replace("the coordinator is silent")
        return True

    def _renew(self, now_ms: int, sent_ms: int) -> None:
        self.deadline_ms = self._deadline_after(sent_ms)
        # Three heartbeats without an answer: try a fresh connection while leases still stand.
        fifth_ms = self.timeout_ms // 5
        self._answer_due_ms = max(sent_ms + 3 * fifth_ms, now_ms + 2 * fifth_ms)

    def _deadline_after(self, sent_ms: int) -> int:
        return sent_ms + self.timeout_ms - self._margin_ms()

    @property
    def margin_ms(self) -> int:
        """How long before the coordinator this side gives leases up, at the least."""
        return self._margin_ms()

    def _margin_ms(self) -> int:
        return max(self.timeout_ms // 10, MARGIN_MS_MIN)

    # --- To the coordinator --------------------------------------------------------------------

    def hello_due(self, now_ms: int) -> bool:
        """Tell whether a HELLO is to be sent now."""
        return now_ms >= self._hello_due_ms

    def hello(self, now_ms: int, held: list[Lease]) -> Hello:
        """Return the HELLO to send now."""
        self.phase = Phase.GREETING
        self._hello_due_ms = NEVER_MS
        self._hello_sent_ms = now_ms
        self._hello_spoiled = False
        self._answer_due_ms = now_ms + self._patience_ms
        me = self._identity
        return Hello(
            version.VERSION_MIN,
            version.VERSION_MAX,
            me.sidecar,
            me.incarnation,
            me.service,
            me.software,
            self.store,
            self.epoch,
            self.session,
            held,
        )

    def heartbeat_due(self, now_ms: int) -> bool:
        """Tell whether a HEARTBEAT is to be sent now."""
        return now_ms >= self._heartbeat_due_ms

    def heartbeat(self, now_ms: int, limits: list[Limit], running: list[Running]) -> Heartbeat:
        """Return the HEARTBEAT to send now."""
        self._heartbeat_sent_ms = now_ms
        self._heartbeat_due_ms = now_ms + self.timeout_ms // 5
        return Heartbeat(now_ms, limits, running)

    @property
    def heartbeat_sent_ms(self) -> int:
        """When the last heartbeat of this session was sent; 0 before the first."""
        return self._heartbeat_sent_ms

    def facts(self, now_ms: int) -> dict[str, int | str]:
        """Return how the link stands, for people and probes."""
        valid_ms = max(0, self.deadline_ms - now_ms) if self.deadline_ms < NEVER_MS else 0
        return {
            "link": self.phase.value,
            "link_trouble": self.trouble,
            "session": self.session,
            "leases_valid_ms": valid_ms,
        }
