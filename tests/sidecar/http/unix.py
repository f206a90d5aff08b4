"""requests over a Unix socket."""

import socket
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

TIMEOUT_SECONDS = 15.0
BASE_URL = "http://localhost"


def session(path: Path) -> requests.Session:
    """Return a session of which every request goes to the socket at ``path``."""

    class Connection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(str(path))

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
            return pool

    pool = Pool("localhost")
    made = requests.Session()
    made.mount("http://", Adapter())
    return made
