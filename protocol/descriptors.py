"""Know the one error in an event loop after which a process goes on: no room for a connection.

Whoever connects often enough uses up the descriptors of a process. It waits until some are free
and serves those it has; any other error in a callback means that its core cannot be trusted.
"""

import errno
from collections.abc import Mapping

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Shortage:
    """The connections that could not be taken."""

    def __init__(self) -> None:
        self.times = 0

    def is_meant(self, context: Mapping[str, object]) -> bool:
        """Tell whether this is what an event loop's exception handler is told."""
        error = context.get("exception")
        return "socket" in context and isinstance(error, OSError) and error.errno in _NO_ROOM

    def add(self) -> bool:
        """Count one; return whether to say it: the 1st, 2nd, 4th, ... so that none fills a disk."""
        self.times += 1
        return self.times & (self.times - 1) == 0
