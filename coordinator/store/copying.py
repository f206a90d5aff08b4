"""A copy of a store on its way to who takes it, at the pace of the one who takes.

LMDB writes its copy to a descriptor, in one call. Here that is a pipe: it waits whenever nobody
takes, which paces the copy and bounds memory, and closing the pipe ends it. The call runs in a
thread of its own, beside commits.
"""

import os
import threading
from collections.abc import Callable, Iterator

from coordinator.errors import StoreError

CHUNK_BYTES = 256 * 1024


class Copying:
    """One copy under way; closed by whoever has started it.

    Args:
        write: Writes the copy to a descriptor; runs in another thread.
    """

    def __init__(self, write: Callable[[int], None]) -> None:
        self._write = write
        self._failure: Exception | None = None
        self._source, target = os.pipe()
        self._thread = threading.Thread(
            target=self._run, args=(target,), name="pillion-copy", daemon=True
        )
        self._thread.start()

    def read(self) -> bytes:
        """Wait for the next part and return it; empty at the end of the copy.

        Raises:
            StoreError: The copy has failed.
        """
        part = bytearray()
        while len(part) < CHUNK_BYTES:
            more = os.read(self._source, CHUNK_BYTES - len(part))
            if not more:
                break
            part += more
        if not part:
            self._thread.join()
            if self._failure is not None:
                raise StoreError(str(self._failure)) from self._failure
        return bytes(part)

    def parts(self) -> Iterator[bytes]:
        """Yield part after part."""
        while part := self.read():
            yield part

    def close(self) -> None:
        """End the copy if it is not at its end; not while another thread reads."""
        if self._source >= 0:
            os.close(self._source)
            self._source = -1
            self._thread.join()

    def _run(self, target: int) -> None:
        try:
            self._write(target)
        except Exception as error:
            self._failure = error
        finally:
            os.close(target)
