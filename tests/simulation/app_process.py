"""An app that submits tasks, insists until it has a verdict, and asks what became of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.errors import CODES, Code
from protocol.messages import (
    Accepted,
    Answer,
    Attach,
    Attached,
    Batch,
    Goodbye,
    Message,
    Query,
    Question,
    Refused,
    Submit,
    Verdict,
)
from protocol.submission import encode_batch
from tests.simulation.process import Process
from tests.simulation.stream import Stream
from tests.simulation.workload import Entry
from tests.simulation.world import MS, SECOND, World

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.sidecar_process import SidecarProcess


class AppProcess(Process):
    """One app.

    Args:
        world: The world.
        name: Its name.
        sidecar: Returns the sidecar to use at present, if one runs.
        checks: What watches.
    """

    def __init__(
        self,
        world: World,
        name: str,
        sidecar: "Callable[[], SidecarProcess | None]",
        checks: "Checks",
    ) -> None:
        super().__init__(world, name)
        self._sidecar = sidecar
        self._checks = checks
        self._stream: Stream | None = None
        self._attached = False
        self._request = 0
        self._wanted: list[list[Entry]] = []
        """Batches to submit as soon as there is a connection."""
        self._submitted: dict[int, list[Entry]] = {}
        self._asked: dict[int, int] = {}
        """How long each question waits."""
        self._retrying = 0
        self._connect_in(0)

    @property
    def waiting(self) -> int:
        """How many batches have no final verdict."""
        return len(self._wanted) + len(self._submitted) + self._retrying

    # --- The connection ------------------------------------------------------------------------

    def _connect_in(self, delay_us: int) -> None:
        self.world.after(delay_us, lambda: self.run(self._connect))

    def _connect(self) -> None:
        sidecar = self._sidecar()
        if self._stream is not None:
            return
        if sidecar is None:
            self._connect_in(50 * MS)
            return
        self._stream = sidecar.open_stream(self)
        self._stream.to_sidecar(Attach(1, 1, "", "0", [], []))

    def hang_up(self) -> None:
        """Die, and start again with everything that has no verdict."""
        if self._stream is not None:
            self._stream.close_client(loses=self.world.chance(0.5))
            self._stream = None
            self._begin_anew()

    def closed(self) -> None:
        """Go on over another connection."""
        self._stream = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._attached = False
        self._wanted += self._submitted.values()
        self._submitted.clear()
        self._asked.clear()
        self._connect_in(self.world.rng.randrange(5 * MS, 100 * MS))

    def received(self, message: Message) -> None:
        """Take what the sidecar sends."""
        match message:
            case Attached():
                self._attached = True
                wanted, self._wanted = self._wanted, []
                for entries in wanted:
                    self.submit(entries)
            case Accepted(verdicts):
                for verdict in verdicts:
                    self._decided(verdict)
            case Answer(replies):
                for request, code, status in replies:
                    wait_ms = self._asked.pop(request, None)
                    if wait_ms is not None:
                        self._checks.answered(code, status, waited=wait_ms > 0)
            case Refused() | Goodbye():
                pass
            case _:
                self._checks.surprised(self.name, message)

    # --- Submitting ----------------------------------------------------------------------------

    def submit(self, entries: list[Entry]) -> None:
        """Submit until there is a verdict."""
        if self._stream is None or not self._attached:
            self._wanted.append(entries)
            return
        self._request += 1
        self._submitted[self._request] = entries
        data = encode_batch([entry.submission() for entry in entries])
        self._checks.submitted(data, entries)
        spool = self.world.chance(0.7)
        self._stream.to_sidecar(Submit([Batch(self._request, data, spool)]))

    def _decided(self, verdict: Verdict) -> None:
        entries = self._submitted.pop(verdict.request, None)
        if entries is None:
            return
        code = verdict.code
        if code is not None and code != Code.SPOOLED:
            if not CODES[code].retry:
                self._checks.surprised(self.name, verdict)
            self.world.hit(f"submit_{code}")
            self._retrying += 1
            wait_us = max(verdict.retry_after_ms, 50) * MS + self.world.rng.randrange(SECOND // 2)
            self.world.after(wait_us, lambda: self.run(lambda: self._again(entries)))
            return
        rejected = {rejection.place: rejection.code for rejection in verdict.rejections}
        for place, entry in enumerate(entries):
            rejection = rejected.get(place)
            if rejection is None and code == Code.SPOOLED and self._stream is not None:
                self._checks.spooled(entry, self._stream.sidecar.spool)
            elif rejection is None:
                self._checks.acknowledged(entry)
            elif rejection == Code.DUPLICATE_ID:
                self._checks.rejected(entry)
            else:
                self._checks.surprised(self.name, verdict)

    def _again(self, entries: list[Entry]) -> None:
        self._retrying -= 1
        self.submit(entries)

    # --- Asking --------------------------------------------------------------------------------

    def ask(self, ids: list[bytes], wait_ms: int) -> None:
        """Ask what became of tasks."""
        if self._stream is None or not self._attached:
            return
        questions = []
        for task_id in ids:
            self._request += 1
            self._asked[self._request] = wait_ms
            questions.append(Question(self._request, task_id, wait_ms))
        self._stream.to_sidecar(Query(questions))
