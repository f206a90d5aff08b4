"""The processes of the demo: a coordinator, two sidecars and three processes of two services.

Whatever happens to the demo, none of them stays: they are stopped when it ends, and the kernel
kills them if it cannot.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from examples.demo import places
from examples.demo.journal import NAME_VARIABLE
from examples.demo.program import Program

SESSION_TIMEOUT = "2500ms"
PROCESSES = {"images": 2, "reports": 1}
"""How many processes each service has; beside each service rides one sidecar."""
LOG = ("--log-format", "console")
"""For people, also in files."""
READY_S_MAX = 20.0
STOP_S_MAX = 5.0
HURRY_S_MAX = 1.0


class SceneFailed(Exception):
    """Raised when a process did not do its part."""


class Scene:
    """All programs of the demo, in one folder.

    Attributes:
        dead_port: A port that is taken, and at which nobody listens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / places.JOURNAL).mkdir()
        self._dead = socket.socket()
        self._dead.bind(("127.0.0.1", 0))
        self.dead_port: int = self._dead.getsockname()[1]
        self._ready = folder / "coordinator.ready"
        self.address = "tcp://127.0.0.1:0"
        self.coordinator = Program("coordinator", folder)
        self.sidecars: dict[str, Program] = {}
        self.services: dict[str, Program] = {}

    @property
    def programs(self) -> list[Program]:
        """All programs, those first that others need."""
        return [self.coordinator, *self.sidecars.values(), *self.services.values()]

    def socket(self, service: str) -> Path:
        """Return the path of the socket of a service's sidecar."""
        return self.folder / f"{service}.sock"

    async def start(self) -> None:
        """Start everything; service, sidecar and coordinator may come up in any order.

        Raises:
            SceneFailed: Something did not come up.
        """
        await self.start_coordinator()
        for service, processes in PROCESSES.items():
            for number in range(1, processes + 1):
                self._start_process(service, f"{service}-{number}")
            self._start_sidecar(service)
        for service in self.sidecars:
            await self.until_reachable(service)

    async def start_coordinator(self) -> None:
        """Start the coordinator, at the port that it had before if it had one, and wait for it.

        Raises:
            SceneFailed: It did not come up.
        """
        self._ready.unlink(missing_ok=True)
        command = [
            "-m",
            "coordinator",
            "serve",
            "--bind",
            self.address,
            "--http-bind",
            "127.0.0.1:0",
        ]
        command += ["--data-dir", "store", "--ready-file", str(self._ready)]
        # A container's own layer is good enough for a demo.
        command += ["--session-timeout", SESSION_TIMEOUT, "--allow-filesystem", *LOG]
        self.coordinator.start(command)
        await self._until(
            lambda: self._ready.exists() and self._ready.read_text().endswith("\n"),
            "the coordinator to listen",
        )
        self.address = self._ready.read_text().strip()

    async def until_reachable(self, service: str) -> None:
        """Wait until the sidecar of a service takes connections.

        Raises:
            SceneFailed: It did not in time.
        """
        await self._until(
            lambda: _accepts(self.socket(service)), f"the sidecar of {service} to listen"
        )

    def check(self) -> None:
        """Fail if a program has ended that should be running.

        Raises:
            SceneFailed: One has.
        """
        for program in self.programs:
            if program.is_wanted and program.code is not None:
                raise SceneFailed(f"{program.name} has ended by itself with {program.code}")

    async def stop(self) -> list[str]:
        """Stop everything in order, services first; return which did not end well."""
        troubled = []
        groups = (self.services.values(), self.sidecars.values(), [self.coordinator])
        for group in groups:
            troubled += await _end(group, STOP_S_MAX)
        self._dead.close()
        return troubled

    async def stop_in_a_hurry(self) -> None:
        """Stop everything at once, within little more than a second."""
        await _end(self.programs, HURRY_S_MAX)
        self._dead.close()

    def _start_process(self, service: str, name: str) -> None:
        variables = {NAME_VARIABLE: name, "PILLION_SIDECAR_SOCKET": str(self.socket(service))}
        self.services[name] = program = Program(name, self.folder, **variables)
        program.start(["-m", f"examples.demo.services.{service}"])

    def _start_sidecar(self, service: str) -> None:
        name = f"sidecar-{service}"
        command = ["-m", "sidecar", "run", "--service", service, "--name", name]
        command += ["--coordinator", self.address, "--socket", str(self.socket(service)), *LOG]
        self.sidecars[service] = program = Program(name, self.folder)
        program.start(command)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise SceneFailed(f"waited {READY_S_MAX:g} s for {what}")
            await asyncio.sleep(0.02)


async def _end(programs: Iterable[Program], seconds: float) -> list[str]:
    programs = list(programs)
    for program in programs:
        program.tell(signal.SIGTERM)
    ended = await asyncio.gather(*[program.end(seconds) for program in programs])
    return [
        f"{program.name} ended with {program.code}"
        for program, well in zip(programs, ended, strict=True)
        if not well
    ]


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False
