"""Several lives of one program: each a process of its own, that takes over what the last one knew.

A life that ends without closing anything ends as by ``kill -9``: its process is replaced.
"""

import os
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

LIVES = 4


class Lives:
    """Which life this is, and what is handed on.

    Args:
        log: Of the recorder; the state lies beside it.
    """

    def __init__(self, log: Path) -> None:
        self._file = log.with_suffix(".lives")
        self.number = 1
        self.state: Any = None
        """What the life before this one has handed on; None in the first."""
        if self._file.exists():
            # Written by this program itself, a moment ago.
            self.number, self.state = pickle.loads(self._file.read_bytes())

    @property
    def last(self) -> bool:
        """Whether no other follows."""
        return self.number == LIVES

    def end(self, state: Any) -> NoReturn:
        """End this life; the next one begins in the same place of the program as this one did."""
        if self.last:
            sys.exit(0)
        self._file.write_bytes(pickle.dumps((self.number + 1, state)))
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", _module(), *sys.argv[1:]])


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "to be run with -m"
    return spec.name
