"""Who runs what in true time, and whether anything runs twice at once.

An attempt that runs beside a later one is excused in two cases only, those that the guarantee
names: its handler ignores that it was told to stop, or its process or its sidecar's was stopped
and could not keep its deadline.
"""

from typing import TYPE_CHECKING

from protocol.messages import GrantedTask
from tests.simulation.world import Broken, World

if TYPE_CHECKING:
    from tests.simulation.model import Model
    from tests.simulation.service_process import Attempt, ServiceProcess


class Attempts:
    """All attempts that run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[bytes, list[Attempt]] = {}

    def began(self, attempt: "Attempt", task: GrantedTask, model: "Model") -> None:
        """Take note that an attempt begins."""
        task_id, token = attempt.key
        who = f"{task_id.hex()} token {token:#x} at {attempt.service.name}"
        excused = _asleep(attempt)
        record = model.records.get(task_id)
        lease = model.leases.get(task_id)
        # A task that was removed and submitted once more begins its tokens anew.
        known = not excused and task_id not in model.removed
        if known and (lease is None or lease[0] != token):
            raise Broken("only a lease is begun", f"{who}: the lease is {lease}, task {record}")
        if task.payload not in [e.payload for e in model.contents[task_id].values()]:
            raise Broken("the payload is what was submitted", f"{who}: {task.payload!r}")
        ever = model.orders.attempts_ever(attempt.handler)
        if task.attempt > max(task.attempts_max, ever):
            raise Broken("attempts are bounded", f"{who}: {task.attempt} of {task.attempts_max}")
        others = self._running.setdefault(task_id, [])
        if not excused:
            self._check(task_id, others, f"{who} begins")
        others.append(attempt)

    def stopped(self, attempt: "Attempt") -> bool:
        """Take note that an attempt has ended; return False if it had before."""
        running = self._running.get(attempt.key[0])
        if running is None or attempt not in running:
            return False
        running.remove(attempt)
        if not running:
            del self._running[attempt.key[0]]
        return True

    def process_died(self, service: "ServiceProcess") -> None:
        """Take note that everything in a process has ended."""
        for running in list(self._running.values()):
            for attempt in list(running):
                if attempt.service is service:
                    self.stopped(attempt)

    def granted(self, task_id: bytes, token: int) -> None:
        """Check that nothing of a task runs at the moment when it is granted."""
        running = self._running.get(task_id)
        if running:
            self._check(task_id, running, f"{task_id.hex()} token {token:#x} is granted")

    def over(self, task_id: bytes, state: str) -> None:
        """Check that nothing of a task runs when it ends by another's word."""
        running = self._running.get(task_id)
        if running:
            self._check(task_id, running, f"{task_id.hex()} is {state}")

    def _check(self, task_id: bytes, running: "list[Attempt]", now: str) -> None:
        for attempt in running:
            if attempt.deaf and attempt.told and _may_outlive(attempt):
                self._world.hit("deaf_handler_outran_its_lease")
            elif _asleep(attempt):
                self._world.hit("stopped_process_outran_its_lease")
            else:
                raise Broken(
                    "never twice at once",
                    f"{now} while token {attempt.key[1]:#x} runs at {attempt.service.name}",
                )

    @property
    def count(self) -> int:
        """How many attempts run."""
        return len(self._running)


def _asleep(attempt: "Attempt") -> bool:
    service = attempt.service
    return service.asleep or (attempt.sidecar.asleep and not service.knows_validity)


def _may_outlive(attempt: "Attempt") -> bool:
    """Tell whether nobody could stop a deaf attempt: its sidecar kills it if it was awake."""
    return not attempt.service.number or attempt.sidecar.slept_since(attempt.began_us)
