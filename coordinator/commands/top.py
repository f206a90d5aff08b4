"""Handlers as they are, live: asks in a thread of its own, so that keys are heard meanwhile."""

import os
import signal
import sys
import threading
import time
from typing import Any

from coordinator.commands.api import Api, Refused, Unreachable
from coordinator.commands.output import tame
from coordinator.commands.running import Usage
from coordinator.commands.terminal import Ended, Terminal
from coordinator.commands.top_view import View, page_of, screen
from coordinator.commands.watching import can_draw, no_answer


class Told:
    """What the coordinator has told last, and since when it tells nothing any more."""

    def __init__(self, status: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        self.status = status
        self.rows = rows
        self.at = time.monotonic()
        self.trouble = ""

    def failing(self) -> str:
        """Return what is wrong and for how long; empty if nothing is."""
        return no_answer(self.at, tame(self.trouble)) if self.trouble else ""


class Asker(threading.Thread):
    """Asks again and again, and wakes the screen; it ends with the process."""

    def __init__(self, api: Api, told: Told, every_ms: int, waker: int) -> None:
        super().__init__(name="pillion-top", daemon=True)
        self._api, self._told, self._every_ms, self._waker = api, told, every_ms, waker

    def run(self) -> None:
        """Ask until the process ends."""
        while True:
            time.sleep(self._every_ms / 1000)
            try:
                status, rows = ask(self._api)
            except (Unreachable, Refused) as error:
                self._told.trouble = str(error)
            except Exception as error:  # Without a word the screen would stand still.
                self._told.trouble = f"the answer cannot be read: {error!r}"
            else:
                told = self._told
                told.status, told.rows, told.at, told.trouble = status, rows, time.monotonic(), ""
            os.write(self._waker, b"\0")


def ask(api: Api) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the state of the coordinator and all its handlers."""
    return api.get("/v1/status"), api.get("/v1/handlers")["handlers"]


def top(api: Api, view: View, every_ms: int) -> int:
    """Show handlers until somebody leaves; return the number of the signal that ended it, or 0.

    Raises:
        Usage: There is no terminal.
        Unreachable: Nobody answers at the start; later that is shown.
    """
    if not (sys.stdin.isatty() and can_draw()):
        raise Usage(
            "top needs a terminal; without one use pillion-coordinator handlers --watch "
            "-o ndjson, or status --watch"
        )
    told = Told(*ask(api))
    terminal = Terminal()
    try:
        with terminal.taken():
            Asker(api, told, every_ms, terminal.waker).start()
            while not view.left:
                size = terminal.size()
                rows = screen(told.status, told.rows, view, size.lines, told.failing())
                terminal.draw(rows)
                # With trouble, the time since then goes on by itself.
                for key in terminal.wait(1.0 if told.trouble else 60.0):
                    if key == "redraw":
                        terminal.forget()
                    view.press(key, page_of(size.lines))
    except KeyboardInterrupt:
        pass
    except Ended as ended:
        return ended.number
    return 0


def end(number: int) -> None:
    """End as the signal would have ended the process, now that the terminal is put back."""
    if number:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
