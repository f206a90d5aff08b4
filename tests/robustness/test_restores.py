"""A backup that is taken under load and restored: everything accepted before it is there.

What came after it is submitted again, as the docs ask of submitters; what had ended since runs
again. Never are two attempts of a task authorised at once, and tokens only grow.
"""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from protocol.ids import TaskIds, to_text
from sidecar import AsyncClient
from sidecar.sdk.errors import Unavailable
from sidecar.sdk.new_task import NewTask
from tests.robustness.cluster import Cluster
from tests.support.checker import violations
from tests.support.history import ACCEPTED, UNKNOWN, Recorder
from tests.support.process import ROOT
from tests.support.processes import System

pytestmark = pytest.mark.timeout(180)
SECONDS = 60.0
STEP_SECONDS = 0.05
STEP_TASKS = 10
HANDLERS = ("load.quick", "load.quick", "load.slow", "load.slow", "load.long")


class Submitter:
    """Submits tasks that all succeed, and again after a restore."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._clients = [AsyncClient(path, timeout="30s") for path in cluster.sockets]
        self._history: Recorder = cluster.recorder("submitter")
        self._rng = rng
        self._ids = TaskIds()
        self._tasks: dict[str, NewTask] = {}

    async def submit(self, count: int) -> list[str]:
        """Submit new tasks and return the ids of those that were accepted."""
        made = []
        for _ in range(count):
            payload = {"number": len(self._tasks), "ms": self._rng.randrange(50, 301)}
            task = NewTask(
                handler=self._rng.choice(HANDLERS),
                payload=json.dumps(payload).encode(),
                content_type="application/json",
                id=to_text(self._ids.new()),
            )
            assert task.id is not None
            self._tasks[task.id] = task
            self._history.called(task.id, handler=task.handler, crc=crc32(task.payload))
            made.append(task)
        return [task.id for task in made if await self._submit(task) and task.id]

    async def steadily(self) -> None:
        """Submit until cancelled."""
        while True:
            await asyncio.sleep(STEP_SECONDS)  # The pace of the load; nothing is waited for.
            await self.submit(STEP_TASKS)

    async def known(self, ids: list[str]) -> None:
        """Fail unless each of these tasks is known, though nobody has submitted it again."""
        for task_id in ids:
            await self._clients[0].status(task_id)

    async def again(self) -> None:
        """Submit everything once more."""
        for task in self._tasks.values():
            assert await self._submit(task)

    async def finish(self) -> None:
        """Wait for the end of all tasks."""
        for task_id in self._tasks:
            result = await self._clients[0].wait(task_id, timeout=SECONDS)
            found = await self._clients[0].status(task_id)
            self._history.seen(
                task_id,
                state=found.state,
                attempts=found.attempts,
                attempts_max=found.attempts_max,
                result=result,
            )
        for client in self._clients:
            await client.close()

    async def _submit(self, task: NewTask) -> bool:
        assert task.id is not None
        try:
            await self._rng.choice(self._clients).submit_task(task)
        except Unavailable:
            self._history.verdict(task.id, UNKNOWN)
            return False
        self._history.verdict(task.id, ACCEPTED)
        return True


def command(*arguments: str) -> Any:
    """Run a command of the coordinator and return what it reports."""
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", *arguments, "-o", "json"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_backup_under_load_is_restored_without_loss_and_without_two_attempts_at_once(
    system: System, rng: random.Random
) -> None:
    cluster = Cluster(system)

    asyncio.run(_trial(cluster, rng, system.folder / "saved.mdb"))

    found = violations(cluster.read_history())
    assert not found, "\n".join(found[:20])


async def _trial(cluster: Cluster, rng: random.Random, file: Path) -> None:
    coordinator, folder = cluster.coordinator, str(cluster.coordinator.data_folder)
    submitter = Submitter(cluster, rng)
    before = await submitter.submit(200)
    load = asyncio.create_task(submitter.steadily())
    saved = await asyncio.to_thread(command, "backup", str(file), "--data-dir", folder)
    await submitter.submit(50)
    await asyncio.to_thread(coordinator.restart)
    await submitter.submit(50)
    load.cancel()
    await asyncio.wait([load])
    await asyncio.to_thread(coordinator.kill)
    restored = await asyncio.to_thread(
        command, "restore", str(file), "--replace", "--data-dir", folder, "--allow-filesystem"
    )
    await asyncio.to_thread(coordinator.start)

    assert saved["of_a_serving_coordinator"]
    assert restored["tasks"] == saved["tasks"] >= len(before)
    assert restored["epoch"] > saved["epoch"] + 1
    await submitter.known(before)
    await submitter.again()
    await submitter.finish()
    assert "grants_held" in coordinator.output()
    await asyncio.to_thread(cluster.shut_down)
