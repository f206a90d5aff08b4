"""Asking the API: whatever is asked, there is an answer, or it is told why not."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.commands.api import Api, NotPermitted, Place, Refused, Unreachable, segment
from tests.support.processes import System

NOBODY = 65534


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with System() as system:
        yield Api(Place(system.coordinator().http_socket, "", 0, ""))


@given(
    path=st.sampled_from(["/v1/tasks", "/v1/events", "/v1/status", "/readyz", "/v1/handlers"])
    | st.text(max_size=20).map(lambda text: f"/v1/tasks/{segment(text)}")
    | st.text(max_size=20).map(lambda text: f"/v1/handlers/{segment(text)}"),
    query=st.dictionaries(
        st.sampled_from(["filter", "cursor", "limit", "verbose"]) | st.text(max_size=5),
        st.text(max_size=30) | st.sampled_from(["state=dead", "1", "handler~x since=1h"]),
        min_size=1,
        max_size=3,
    ),
)
def test_whatever_is_asked_is_answered_or_refused_with_a_reason(
    api: Api, path: str, query: dict[str, str]
) -> None:
    if path == "/v1/events":
        query = query | {"limit": "1"}  # Which it does not take: or it would answer for ever.
    try:
        api.get(path, query)
    except Refused as refused:
        assert refused.code != "internal"
        assert str(refused)
        assert refused.hint


def test_socket_of_another_user_is_not_taken_for_a_coordinator_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    root = os.geteuid() == 0
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0o600 if root else 0)
        if root:  # Whom no mode keeps away.
            tmp_path.chmod(0o711)
            os.seteuid(NOBODY)
        try:
            with pytest.raises(NotPermitted, match="for the user of its coordinator only"):
                Api(Place(path, "", 0, "")).get("/v1/status")
        finally:
            os.seteuid(os.getuid())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "ends in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhat", "is no coordinator"),
        (b"HTTP/1.1", "does not speak HTTP"),
        (b"", "does not speak HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
    ],
)
def test_who_is_no_coordinator_is_told(
    answer: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable, match=said):
            Api(Place(Path("s"), "", 0, "")).get("/v1/status")
        thread.join()


def test_port_is_asked_when_the_socket_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}')

        asked: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()
        place = Place(tmp_path / "missing", "127.0.0.1", server.getsockname()[1], "secret")
        assert Api(place).get("/v1/status") == {"a": 1}
        thread.join()
    assert b"\r\nAuthorization: Bearer secret\r\n" in asked[0]
