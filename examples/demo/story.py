"""What happens in the demo, in order.

Pictures are made; a coordinator, two sidecars and two services start; hundreds of tasks are
submitted; a sidecar is killed, then a process of a service; both come back; every task ends.
"""

import asyncio
from collections import Counter
from pathlib import Path

from examples.demo import pictures
from examples.demo.app import App
from examples.demo.evidence import Reader
from examples.demo.plan import Case, plan
from examples.demo.program import Program
from examples.demo.progress import Progress
from examples.demo.scene import SESSION_TIMEOUT, Scene

TICK_S = 0.1
SIDECAR_DIES_AT, SERVICE_DIES_AT, COORDINATOR_DIES_AT = 0.25, 0.5, 0.7
"""The share of tasks that has ended when something is killed."""
RUNNING_MIN = 2
"""So many attempts shall run in what is killed: otherwise it would show nothing."""
AWAY_S = 0.7
ENDING_S_MAX = 45.0


class Story:
    """One run of the demo.

    Attributes:
        cases: All tasks; what became of them is known when the story has been told.
        evidence: What the handlers wrote down.
        progress: What the person who watches is told.
    """

    def __init__(self, folder: Path, scene: Scene, seed: int) -> None:
        self.folder = folder
        self.pictures = pictures.catalogue(seed)
        self.cases: list[Case] = plan(self.pictures, scene.dead_port, seed)
        self.evidence = Reader(folder)
        self.progress = Progress(self.cases, self.evidence)
        self._scene = scene

    async def tell(self) -> None:
        """Let it happen.

        Raises:
            SceneFailed: A process did not do its part.
        """
        await self._make_pictures()
        await self._start()
        app = App(self._scene.socket("images"), self.cases)
        acting = asyncio.create_task(self._act(app))
        try:
            while not acting.done():
                self._look()
                await asyncio.wait([acting], timeout=TICK_S)
            acting.result()
        finally:
            acting.cancel()
            await asyncio.wait([acting])
            await app.close()
            self.progress.finish()
        self.evidence.read()

    async def _make_pictures(self) -> None:
        for picture in self.pictures:
            await asyncio.to_thread(pictures.make, self.folder, picture)
        broken = sum(bool(picture.why_broken) for picture in self.pictures)
        self.progress.say(f"made {len(self.pictures)} pictures, {broken} of them broken on purpose")

    async def _start(self) -> None:
        await self._scene.start()
        self.progress.say(
            f"started a coordinator at {self._scene.address}, two sidecars, and the services "
            "images (two processes) and reports"
        )

    def _look(self) -> None:
        self.evidence.read()
        self._scene.check()
        self.progress.draw()

    async def _act(self, app: App) -> None:
        accepted = await app.submit_at_once()
        late = sum(case.late for case in self.cases)
        self.progress.say(
            f"{accepted} tasks accepted, so on disk; {late} more follow one by one meanwhile"
        )
        app.submit_the_rest()
        try:
            async with asyncio.timeout(ENDING_S_MAX):
                await self._kill_sidecar(self._scene.sidecars["images"])
                await self._kill_process(self._scene.services["images-1"])
                await self._kill_coordinator(self._scene.coordinator)
                await app.until_all_have_ended()
        except TimeoutError:
            left = Counter(case.handler for case in self.cases if case.status is None)
            told = ", ".join(f"{count} of {handler}" for handler, count in left.items())
            self.progress.say(f"gave up waiting after {ENDING_S_MAX:g} s; not ended: {told}")

    async def _kill_sidecar(self, sidecar: Program) -> None:
        running = await self._until_busy("images-", SIDECAR_DIES_AT)
        await sidecar.kill()
        self.progress.say(
            f"kill -9 of {sidecar.name} (process {sidecar.pid}) with {running} attempts running "
            "beside it; both processes of images stop what they cannot report"
        )
        await asyncio.sleep(AWAY_S)
        sidecar.start()
        await self._scene.until_reachable("images")
        self.progress.say(
            f"{sidecar.name} is back; what its predecessor held is leased again once that has "
            f"been silent for {SESSION_TIMEOUT}"
        )

    async def _kill_process(self, process: Program) -> None:
        await self._until_busy(process.name, SERVICE_DIES_AT)
        died = self.evidence.killed(process.pid, await process.kill())
        self.progress.say(
            f"kill -9 of {process.name}, one of two processes of the service images (process "
            f"{process.pid}), with {died} attempts running in it; its sidecar notices at once"
        )
        await asyncio.sleep(AWAY_S)
        process.start()
        self.progress.say(f"{process.name} is back")

    async def _kill_coordinator(self, coordinator: Program) -> None:
        running = await self._until_busy("", COORDINATOR_DIES_AT)
        await coordinator.kill()
        self.progress.say(
            f"kill -9 of the coordinator (process {coordinator.pid}); {running} attempts go on"
        )
        await asyncio.sleep(AWAY_S)
        await self._scene.start_coordinator()
        self.progress.say("the coordinator is back, with all that it had accepted")

    async def _until_busy(self, process: str, share: float) -> int:
        """Wait until a share of all tasks has ended and something runs in a process."""
        while self.progress.share < share or self.evidence.running_in(process) < RUNNING_MIN:
            await asyncio.sleep(0.01)
            self.evidence.read()
        return self.evidence.running_in(process)
