"""A whole Pillion for tests: a coordinator, sidecars and services as real processes in one folder.

with System() as system:
    coordinator = system.coordinator()
    sidecar = system.sidecar("email", coordinator)
    system.service("email-1", sidecar, SERVICE_SOURCE)
    ...
    sidecar.kill()
    sidecar.start()
"""

import contextlib
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.support.process import Process, ProcessFailed

SOCKET_PATH_BYTES_MAX = 100

__all__ = ["Coordinator", "Process", "ProcessFailed", "Sidecar", "System"]

_AProcess = TypeVar("_AProcess", bound=Process)


class Coordinator(Process):
    """``python -m coordinator serve`` on loopback; it keeps its port and its data over restarts."""

    def __init__(
        self, folder: Path, name: str = "coordinator", options: Sequence[str] = ()
    ) -> None:
        self.data_folder = folder / f"{name}-data"
        self.ready_file = folder / f"{name}.ready"
        self.options = list(options)
        super().__init__(
            name, self._command("tcp://127.0.0.1:0"), folder, is_ready=lambda: bool(self._bound())
        )

    @property
    def http_socket(self) -> Path:
        """The socket of its HTTP side."""
        return self.data_folder / "http.sock"

    @property
    def address(self) -> str:
        """Where it listens, ``tcp://127.0.0.1:PORT``; known after the first start."""
        address = self._bound()
        assert address, f"{self.name} was never ready"
        return address

    def before_start(self) -> None:
        """Bind the earlier port again, and wait for a new ready file."""
        if address := self._bound():
            self.command[1:] = self._command(address)
        self.ready_file.unlink(missing_ok=True)

    def _bound(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            text = self.ready_file.read_text()
            return text.strip() if text.endswith("\n") else ""
        return ""

    def _command(self, address: str) -> list[str]:
        return [
            *("-m", "coordinator", "serve", "--bind", address),
            *("--http-bind", "127.0.0.1:0"),
            *("--data-dir", str(self.data_folder), "--ready-file", str(self.ready_file)),
            "--allow-filesystem",  # A container's own layer is good enough for a test.
            *self.options,
        ]


class Sidecar(Process):
    """``python -m sidecar run`` for one service; ready when its socket accepts."""

    def __init__(
        self,
        folder: Path,
        service: str,
        coordinator: str,
        *,
        name: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        name = name or f"sidecar-{service}"
        self.socket_path = folder / f"{name}.sock"
        size = len(str(self.socket_path).encode())
        assert size < SOCKET_PATH_BYTES_MAX, (
            f"{self.socket_path} has {size} bytes; use a short name"
        )
        command = [
            *("-m", "sidecar", "run", "--service", service),
            *("--coordinator", coordinator, "--socket", str(self.socket_path)),
            *options,
        ]
        super().__init__(name, command, folder, is_ready=self.accepts)

    def accepts(self) -> bool:
        """Tell whether the socket takes a connection."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True


class System:
    """Processes in one temporary folder; a context manager that ends them all.

    Leaving it fails if a process had ended before without having been told to.
    """

    def __init__(self) -> None:
        # Not pytest's tmp_path: that is too long for the path of a Unix socket.
        self._temporary = tempfile.TemporaryDirectory(prefix="pln")
        self.folder = Path(self._temporary.name)
        self.processes: list[Process] = []

    def __enter__(self) -> "System":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failures = self._unexpected_ends()
        for process in reversed(self.processes):
            process.end_expected = True
            process.kill()
        if error is not None:
            for process in self.processes:
                error.add_note(f"--- output of {process.name}\n{process.output()[-3_000:]}")
        self._temporary.cleanup()
        if failures and error is None:
            raise ProcessFailed("\n".join(failures))

    def coordinator(
        self, *options: str, name: str = "coordinator", start: bool = True
    ) -> Coordinator:
        """Add a coordinator."""
        return self.add(Coordinator(self.folder, name, options), start=start)

    def sidecar(
        self,
        service: str,
        coordinator: Coordinator | str,
        *options: str,
        name: str | None = None,
        start: bool = True,
    ) -> Sidecar:
        """Add a sidecar for a service; ``coordinator`` may be an address where nothing listens."""
        address = coordinator if isinstance(coordinator, str) else coordinator.address
        sidecar = Sidecar(self.folder, service, address, name=name, options=options)
        return self.add(sidecar, start=start)

    def service(
        self,
        name: str,
        sidecar: Sidecar,
        source: str,
        *arguments: str,
        environment: dict[str, str | None] | None = None,
        start: bool = True,
    ) -> Process:
        """Add a service, given as the text of its program.

        It counts as ready at once; to wait for more, let it write a file and ``wait_until``.
        """
        script = self.folder / f"{name}_service.py"  # Called otherwise than any module.
        script.write_text(source)
        variables = {"PILLION_SIDECAR_SOCKET": str(sidecar.socket_path), **(environment or {})}
        process = Process(name, [str(script), *arguments], self.folder, environment=variables)
        return self.add(process, start=start)

    def add(self, process: _AProcess, *, start: bool = True) -> _AProcess:
        """Take charge of a process."""
        self.processes.append(process)
        if start:
            process.start()
        return process

    def check(self) -> None:
        """Fail if any process has ended without having been told to."""
        if failures := self._unexpected_ends():
            raise ProcessFailed("\n".join(failures))

    def _unexpected_ends(self) -> list[str]:
        failures = []
        for process in self.processes:
            try:
                process.check()
            except ProcessFailed as failure:
                failures.append(str(failure))
        return failures
