"""Where the HTTP side listens, and whom it lets in."""

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from coordinator.errors import CoordinatorError
from coordinator.http import server, socket_file
from coordinator.settings import build, read, read_token
from coordinator.store.memory_store import MemoryStore
from protocol.settings import SettingsError
from tests.coordinator.http.asking import Asked, asking
from tests.coordinator.running import Running, settings_for

COPY_MIB = 16
TOKEN = "0123456789abcdef0123"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def test_socket_is_for_this_user_only_and_goes_with_the_coordinator() -> None:
    paths = []

    async def body(asked: Asked) -> None:
        path = asked.running._settings.http_socket
        assert path is not None
        paths.append(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await asked.get("/livez")).status == 200

    asking(body)
    assert not paths[0].exists()


def test_without_a_token_only_names_of_this_machine_are_served_over_tcp() -> None:
    async def body(asked: Asked) -> None:
        assert (await asked.get_tcp("/v1/status")).status == 200
        foreign = await asked.get_tcp("/v1/status", headers={"Host": "evil.example"})
        assert (foreign.status, foreign.json["code"]) == (403, "foreign_host")
        assert (await asked.get_tcp("/livez", headers={"Host": "10.1.2.3:7712"})).status == 200

    asking(body)


def test_with_a_token_nobody_without_it_is_served_over_tcp(token_file: Path) -> None:
    async def body(asked: Asked) -> None:
        bare = await asked.get_tcp("/v1/status")
        wrong = await asked.get_tcp("/v1/status", headers={"Authorization": "Bearer nonsense"})
        right = await asked.get_tcp("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (bare.status, wrong.status, right.status) == (401, 401, 200)
        assert bare.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in bare.text + wrong.text
        assert (await asked.get_tcp("/readyz")).status == 200
        assert (await asked.get("/v1/status")).status == 200  # The file's mode guards the socket.

    asking(body, http_token_file=str(token_file))


def test_port_that_is_taken_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        async def run() -> None:
            running = Running(settings_for(tmp_path, http=True, http_bind=address), MemoryStore())
            await asyncio.wait([running.ended])
            running.ended.result()

        with pytest.raises(
            CoordinatorError, match="set http_bind to another port, or set http to false"
        ):
            asyncio.run(run())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"http_bind": "0.0.0.0:7712"}, "set http_token_file"),
        ({"http_bind": "7712"}, "expected HOST:PORT"),
        ({"http_bind": "127.0.0.1:70000"}, "expected HOST:PORT"),
        ({"http_socket": "/" + "x" * 101}, "a socket's path may have 100"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(flags: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build(read(flags=flags, environ={}))


def test_beyond_loopback_a_token_is_enough(token_file: Path) -> None:
    flags = {"http_bind": "0.0.0.0:7712", "http_token_file": str(token_file)}
    assert build(read(flags=flags, environ={})).http_bind == "0.0.0.0:7712"
    assert read_token(token_file) == TOKEN


@pytest.mark.parametrize(
    "content", ["", "short", "two words are no token\n", "x" * 8 + "\n" + "y" * 8]
)
def test_token_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(CoordinatorError, match="holds no token"):
        read_token(tmp_path / "token")
    with pytest.raises(CoordinatorError, match="cannot be read"):
        read_token(tmp_path / "missing")


def test_path_by_default_that_is_too_long_is_left_out() -> None:
    folder = "/" + "x" * 99
    assert build(read(flags={"data_dir": folder}, environ={})).http_socket is None


class _LargeStore(MemoryStore):
    """Whose copy is more than any buffer between here and its reader takes."""

    def copy(self, descriptor: int) -> None:
        for _ in range(COPY_MIB):
            os.write(descriptor, bytes(2**20))


def test_copy_that_nobody_takes_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED_SECONDS", 0.1)

    async def body(asked: Asked) -> None:
        path = asked.running._settings.http_socket
        reader, writer = await asyncio.open_unix_connection(path, limit=2**10)
        target = "/v1/backup?mib_per_second=1000"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        plan = {"stopped": ""}
        while not plan["stopped"]:
            plan = (await asked.get("/v1/backup/plan")).json
        assert plan["stopped"] == "its client has gone, or takes nothing"
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()

    asking(body, _LargeStore())


class TestSocketFile:
    """Run where paths are short enough."""

    @pytest.fixture(autouse=True)
    def inside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_left_behind_is_replaced(self) -> None:
        socket_file.listen(Path("s")).close()
        assert Path("s").exists()
        socket_file.listen(Path("s")).close()

    def test_of_another_process_is_left_alone(self) -> None:
        with (
            socket_file.listen(Path("s")),
            pytest.raises(CoordinatorError, match="another process listens there"),
        ):
            socket_file.listen(Path("s"))
        assert Path("s").exists()

    def test_that_is_a_file_is_left_alone(self) -> None:
        Path("s").write_text("precious")
        with pytest.raises(CoordinatorError, match="is no socket"):
            socket_file.listen(Path("s"))
        assert Path("s").read_text() == "precious"

    def test_where_nothing_may_be_made_is_told(self) -> None:
        Path("file").write_text("")
        with pytest.raises(CoordinatorError, match="set it to another path"):
            socket_file.listen(Path("file/s"))
        assert not os.path.exists("file/s")
