"""What a sidecar owes to everybody else, seen from beside it: its memory against the store.

Each check names a moment at which its memory must tell the same as what is durable, so that an
error is seen when it is made, and not only if a task runs twice or never for it.
"""

from typing import TYPE_CHECKING

from protocol.messages import Accepted, Beat, Hello, Lease, Message, Submit, Tasks, Welcome
from sidecar.core.events import SpoolWork
from sidecar.core.sidecar import Sidecar
from sidecar.core.terms import Terms
from tests.simulation.world import MS, Broken

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.sidecar_process import SidecarProcess
    from tests.simulation.spool_disk import SpoolDisk


class Duties:
    """What one process of a sidecar has taken on.

    Args:
        sidecar: The process.
        terms: Its times and bounds.
        checks: What is durable.
    """

    def __init__(self, sidecar: "SidecarProcess", terms: Terms, checks: "Checks") -> None:
        self._sidecar = sidecar
        self._terms = terms
        self._checks = checks
        self._model = checks.model
        self._hello: list[Lease] = []
        """What the last HELLO named."""
        self._sent: set[int] = set()
        """Submissions sent in this session."""
        self._began_to_end_ms: int | None = None
        self._told_to_stop_us = -(10**12)
        """When it last told its services that their leases are lost."""

    @property
    def _core(self) -> Sidecar:
        return self._sidecar.core

    def _known(self) -> set[Lease]:
        core = self._core
        held = core._holdings.leases() + core._evidence.leases() + core._unrecorded.leases()
        return set(held)

    # --- From and to the coordinator -----------------------------------------------------------

    def took(self, message: Message) -> None:
        """Check what a message of the coordinator has come to."""
        core = self._core
        if isinstance(message, Welcome) and core.session_open:
            self._sent.clear()
            self._check_welcome(message)
        elif isinstance(message, Accepted):
            self._checks.decides(self._sidecar, message)
        elif isinstance(message, Beat) and core.session_open:
            self._check_nothing_forgotten(message)

    def _check_welcome(self, message: Welcome) -> None:
        name, incarnation = self._sidecar.name, self._sidecar.incarnation
        known = self._known()
        for lease in self._hello:
            stands = self._model.leases.get(lease.id) == (lease.token, incarnation)
            if stands and lease not in known and lease not in message.lost:
                raise Broken("what a session keeps is held", f"{name} has forgotten {lease}")
        for lease in self._core._holdings.leases():
            if self._model.leases.get(lease.id) != (lease.token, incarnation):
                raise Broken("only a lease is held", f"{name} goes on with {lease}")

        counted = self._core._asked._granted
        if any(counted.values()):
            raise Broken("demand is counted by session", f"{name} goes on from {counted}")

    def _check_nothing_forgotten(self, beat: Beat) -> None:
        """Every grant before a BEAT has come, or its loss was noticed."""
        incarnation, session = self._sidecar.incarnation, self._core._link.session
        known: set[Lease] | None = None
        for task_id, (token, holder) in self._model.leases.items():
            if holder != incarnation:
                continue
            number = self._checks.grants.get((task_id, token))
            if number is None or number[0] != session or number[1] > beat.grant_number:
                continue
            known = self._known() if known is None else known
            if Lease(task_id, token) not in known:
                raise Broken(
                    "a lost grant is noticed", f"{self._sidecar.name} {task_id.hex()} {token:#x}"
                )

    def sends(self, message: Message) -> None:
        """Take note of what goes to the coordinator."""
        if isinstance(message, Submit):
            self._sent.update([batch.request for batch in message.batches])
        elif isinstance(message, Hello):
            self._hello = message.held

    # --- To services ---------------------------------------------------------------------------

    def hands_over(self, message: Message) -> None:
        """Check what goes to a service."""
        if self._began_to_end_ms is not None and isinstance(message, Tasks):
            raise Broken("nothing is handed over by one that ends", self._sidecar.name)
        if self._core._hold.on and isinstance(message, Tasks):
            raise Broken("nothing is handed over by one that is drained", self._sidecar.name)

    def gave_up(self) -> None:
        """Take note that its leases were void."""
        self._told_to_stop_us = self._sidecar.world.now

    def check_given_up(self, timeout_ms: int) -> None:
        """Check, as its session expires at the coordinator, that it gave up well before.

        Both keep a margin. What one of them does not keep is seen here, though the other one's is
        enough to save the promise.
        """
        sidecar = self._sidecar
        now = sidecar.world.now
        if sidecar.slept_since(now - 3 * timeout_ms * MS):
            return
        if self._core._holdings.leases():
            raise Broken("a sidecar gives up first", f"{sidecar.name} holds leases that are over")
        margin_ms = max(timeout_ms // 10, 250)
        early_us = (2 * margin_ms - timeout_ms // 40 - 100) * MS
        if now - early_us < self._told_to_stop_us:
            late = f"{(now - self._told_to_stop_us) // MS} ms before"
            raise Broken("a sidecar gives up first", f"{sidecar.name} gave up {late}")

    # --- The spool -----------------------------------------------------------------------------

    def spools(self, spool: "SpoolDisk", work: SpoolWork) -> None:
        """Check a change of its spool, right before it is made."""
        for number in work.removes:
            if number in spool.kept and spool.batches[number] not in self._checks.decided:
                raise Broken("what is spooled stays until its verdict", self._sidecar.name)
        size = sum([len(tasks) for tasks in (spool.batches | dict(work.puts)).values()])
        size -= sum([len(spool.batches.get(number, b"")) for number in work.removes])
        if size > self._terms.spool_bytes_max:
            raise Broken("the spool is bounded", f"{self._sidecar.name} {size} bytes")

    # --- Its own -------------------------------------------------------------------------------

    def flushed(self) -> None:
        """Check what must hold after each turn of its loop."""
        core = self._core
        submissions = core._submissions
        if submissions._waiting:
            self._check_submissions()
        if core._hold.on and core._holdings.counts()["tasks_buffered"]:
            raise Broken("one that is drained keeps nothing unbegun", self._sidecar.name)
        if not core.session_open and len(core._unrecorded) and not self._sidecar.spool_at_work:
            self._check_journal()

    def _check_submissions(self) -> None:
        submissions, terms, name = self._core._submissions, self._terms, self._sidecar.name
        if self._core.session_open:
            for number in submissions._waiting:
                unsent = number in submissions._unsent or number in submissions._unsent_only
                if not unsent and number not in self._sent:
                    raise Broken("what has no answer is sent again", f"{name} batch {number}")
        if submissions._bytes_in_all > terms.submit_bytes_max:
            raise Broken("buffers are bounded", f"{name} holds {submissions._bytes_in_all} bytes")
        most = max(submissions._bytes.values(), default=0)
        if most > terms.submit_bytes_per_connection_max:
            raise Broken("buffers are bounded", f"{name} holds {most} bytes of one connection")

    def _check_journal(self) -> None:
        """An outcome of a sidecar without a session is on its disk, soon."""
        core, spool = self._core, self._sidecar.spool
        since_ms = core._keeping._closed_since_ms
        if spool is None or not core._spool.available or since_ms is None:
            return
        if self._sidecar.asleep or self._sidecar.now_ms() < since_ms + self._terms.journal_after_ms:
            return
        missing = [o for o in core._unrecorded.leases() if o not in spool.outcomes]
        if missing:
            raise Broken("outcomes are journaled", f"{self._sidecar.name} {missing}")

    def drains(self) -> None:
        """Take note that its end begins."""
        if self._began_to_end_ms is None:
            self._began_to_end_ms = self._sidecar.now_ms()

    def leaves(self) -> None:
        """Check what one that ends in order leaves behind, unless its time was over."""
        core, spool = self._core, self._sidecar.spool
        assert self._began_to_end_ms is not None
        if self._sidecar.now_ms() - self._began_to_end_ms >= self._terms.record_ms:
            return
        journal = spool.outcomes if spool is not None and not core.session_open else ()
        left = [lease for lease in self._known() if lease not in journal]
        if left:
            raise Broken("one that ends hands everything over", f"{self._sidecar.name} {left}")
