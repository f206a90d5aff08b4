"""Where a service listens for what is pushed: a Unix socket, or a port of loopback."""

import os
import re
from typing import NamedTuple

PATH_BYTES_MAX = 107
"""The system takes 108, with the end."""
_HTTP = re.compile(r"http://(127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|localhost):([0-9]{1,5})/?")


class BadAddress(ValueError):
    """Raised when a text is no address of a service; says what is."""


class Address(NamedTuple):
    """A path, or a host of loopback and a port."""

    path: str
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"http://{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        return "localhost" if self.path else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Return the address that a text names.

    Raises:
        BadAddress: It is none, or not of this machine.
    """
    if "://" not in text:
        size = len(os.fsencode(text))
        if size > PATH_BYTES_MAX:
            raise BadAddress(f"{text!r} has {size} bytes; the system allows {PATH_BYTES_MAX}")
        return Address(os.path.abspath(text))
    found = _HTTP.fullmatch(text)
    if found is None or not 0 < int(found[2]) <= 65_535:
        raise BadAddress(f"{text!r}: expected a socket's path, or http://127.0.0.1:PORT")
    host = "127.0.0.1" if found[1] == "localhost" else found[1]
    return Address("", host, int(found[2]))
