"""A real coordinator with its sockets, in a thread of the test, on a store that the test gives."""

import asyncio
import os
import threading
from pathlib import Path

from coordinator.runtime import Coordinator
from coordinator.settings import build, read
from coordinator.store.base import Store

SECONDS_MAX = 20.0


class InThread:
    """A real coordinator in a thread of its own."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.error: BaseException | None = None
        self._store = store
        self._ready_file = folder / "ready"
        self._ready_file.unlink(missing_ok=True)
        self.ended, self._end = os.pipe()
        self._serving = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
        os.write(self._end, b".")
        self._serving.set()

    async def _serve(self) -> None:
        flags = {"bind": "tcp://127.0.0.1:0", "ready_file": str(self._ready_file)}
        settings = build(read(flags={**flags, "data_dir": "/nowhere"}, environ={}))
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        coordinator = Coordinator(settings, self._store)
        announce = coordinator._announce  # The test waits for it, instead of for a file.

        def announced(address: str) -> None:
            announce(address)
            self._serving.set()

        coordinator._announce = announced  # type: ignore[method-assign]
        await coordinator.run(self._stop)

    def address(self) -> str | None:
        """Wait until it serves, and return where; None if it has ended before."""
        assert self._serving.wait(SECONDS_MAX)
        return self._ready_file.read_text().strip() if self._ready_file.exists() else None

    def join(self, *, stop: bool) -> None:
        """Wait for its end."""
        if stop and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive(), "it does not end"
        os.close(self.ended)
        os.close(self._end)
