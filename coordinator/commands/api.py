"""Ask a coordinator's API: over its Unix socket, or else over its port.

A few lines of HTTP/1.0 on a socket: a command that is asked often must start fast, and
``http.client`` takes longer to import than an answer takes.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

ANSWER_SECONDS = 30.0
PART_BYTES = 256 * 1024
ANSWER_BYTES_MAX = 256 * 2**20
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,12})", re.IGNORECASE)


class Unreachable(Exception):
    """Raised when no coordinator answers."""


class NotPermitted(Unreachable):
    """Raised when a coordinator's socket is not for who asks."""


class Refused(Exception):
    """Raised when the API answers with a problem."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = problem
        self.status = int(problem.get("status", 500))
        self.code = str(problem.get("code", "internal"))
        self.hint = str(problem.get("hint", ""))
        super().__init__(str(problem.get("detail", "the coordinator has failed")))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a coordinator may be asked; what is empty is not tried."""

    socket: Path | None
    host: str
    port: int
    token: str


class Api:
    """One coordinator."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return what a path answers.

        Raises:
            Unreachable: Nobody answers.
            Refused: The answer is a problem.
        """
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what a path answers to a method, and to a body.

        Raises:
            Unreachable: Nobody answers.
            Refused: The answer is a problem.
        """
        target = path + ("?" + urlencode(query) if query else "")
        status, answer = self._ask(
            target, method, b"" if body is None else json.dumps(body).encode()
        )
        try:
            value = json.loads(answer)
        except ValueError:
            raise Unreachable(f"what answers at {self._shown()} is no coordinator") from None
        if status >= 400:
            raise Refused(value if isinstance(value, dict) else {})
        return value

    def get_text(self, path: str) -> str:
        """Return what a path answers that is no JSON.

        Raises:
            Unreachable: Nobody answers.
        """
        return self._ask(path)[1].decode()

    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield what a path answers part by part, however much it is.

        Raises:
            Unreachable: Nobody answers, or the answer ends in the middle.
            Refused: The answer is a problem.
        """
        import http.client  # noqa: PLC0415 (it takes long to import, and few need it)

        connection = http.client.HTTPConnection("localhost")
        shown = self._shown()
        try:
            connection.sock = self._connect()
            token = {"Authorization": f"Bearer {self._place.token}"} if self._place.token else {}
            connection.request("GET", f"{path}?{urlencode(query)}", headers=token)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise Refused(json.loads(answer.read(ANSWER_BYTES_MAX)))
            while part := answer.read(PART_BYTES):
                yield part
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(
                f"the answer of {shown} to {path} ends in the middle ({error}); "
                "the coordinator's log says why"
            ) from None
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        """Return a connection to the first address that takes one.

        Raises:
            OSError: None does.
        """
        failure: OSError = ConnectionRefusedError("no address")
        for family, address, _ in self._addresses():
            connection = socket.socket(family)
            connection.settimeout(ANSWER_SECONDS)
            try:
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        raise failure

    def _ask(self, target: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
        failures = []
        for family, address, shown in self._addresses():
            try:
                return _exchange(family, address, self._request(target, method, body))
            except PermissionError:
                raise NotPermitted(
                    f"{shown} is for the user of its coordinator only; ask as that user, or over "
                    "--http-bind with --http-token-file"
                ) from None
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                failures.append(f"{shown} ({reason})")
        tried = " and at ".join(failures) or "no address"
        raise Unreachable(
            f"no coordinator answers at {tried}; start one with pillion-coordinator serve, or name "
            "another with --data-dir, --http-socket or --http-bind"
        )

    def _request(self, target: str, method: str, body: bytes) -> bytes:
        lines = [f"{method} {target} HTTP/1.0", "Host: localhost", "Accept: application/json"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if self._place.token:
            lines.append(f"Authorization: Bearer {self._place.token}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _addresses(self) -> Iterator[tuple[socket.AddressFamily, Any, str]]:
        place = self._place
        if place.socket is not None:
            yield socket.AF_UNIX, str(place.socket), str(place.socket)
        if place.port:
            host = place.host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            yield family, (host, place.port), f"{place.host}:{place.port}"

    def _shown(self) -> str:
        return str(self._place.socket or f"{self._place.host}:{self._place.port}")


def segment(text: str) -> str:
    """Return a text as one part of a path."""
    return quote(text, safe="")


def _exchange(family: socket.AddressFamily, address: Any, request: bytes) -> tuple[int, bytes]:
    """Send a request of HTTP/1.0, whose answer ends with its connection; return status and body.

    Raises:
        OSError: Nobody answers.
        ValueError: What answers does not speak HTTP, or stops in the middle.
    """
    with socket.socket(family) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(address)
        connection.sendall(request)
        with connection.makefile("rb") as file:
            answer = file.read(ANSWER_BYTES_MAX)
    head, separator, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not separator or not head.startswith(b"HTTP/1.") or not status[0].isdigit():
        raise ValueError("what answers does not speak HTTP")
    length = _LENGTH.search(head)
    if length is not None and int(length[1]) != len(body):
        raise ValueError("the answer ends in the middle")
    return int(status[0]), body
