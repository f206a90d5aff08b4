"""One sidecar at one path, private to its user and group, whatever was left behind there."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.errors import SocketRefused
from sidecar.gateway.socket_file import PATH_BYTES_MAX, SocketFile, may_connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s" / "sidecar.sock"


@pytest.fixture
def file(path: Path) -> Iterator[SocketFile]:
    made = SocketFile(path)
    yield made
    made.remove()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def leave_stale_socket(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(file: SocketFile, path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with file.listen():
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
            assert connects(path)
    finally:
        os.umask(before)


def test_stale_socket_is_replaced(file: SocketFile, path: Path) -> None:
    leave_stale_socket(path)

    with file.listen():
        assert connects(path)


def test_second_sidecar_is_refused_and_the_first_goes_on(file: SocketFile, path: Path) -> None:
    with file.listen():
        with pytest.raises(SocketRefused, match=rf"pid {os.getpid()}.*--socket"):
            SocketFile(path).listen()
        assert connects(path)


def test_live_socket_without_a_lock_is_not_taken_over(file: SocketFile, path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(SocketRefused, match="something answers"):
            file.listen()
        assert connects(path)


@pytest.mark.parametrize("kind", ["file", "symlink", "folder"])
def test_what_is_no_socket_is_left_alone(file: SocketFile, path: Path, kind: str) -> None:
    path.parent.mkdir()
    match kind:
        case "file":
            path.write_text("precious")
        case "symlink":
            target = path.with_name("elsewhere.sock")
            leave_stale_socket(target)
            path.symlink_to(target)
        case _:
            path.mkdir()

    with pytest.raises(SocketRefused, match="is no socket; move it away"):
        file.listen()

    assert path.is_symlink() or path.exists()


def test_refused_path_can_be_taken_once_it_is_mended(file: SocketFile, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("in the way")
    with pytest.raises(SocketRefused):
        file.listen()

    path.unlink()

    with file.listen():
        assert connects(path)


def test_path_that_is_too_long_is_refused_by_name() -> None:
    path = Path("/tmp", "x" * PATH_BYTES_MAX)

    with pytest.raises(SocketRefused, match="The system allows 108"):
        SocketFile(path).listen()


def test_folder_that_cannot_be_made_is_refused(path: Path) -> None:
    path.parent.parent.joinpath("s").write_text("a file")

    with pytest.raises(SocketRefused, match="cannot serve"):
        SocketFile(path).listen()


def test_removing_frees_the_path_and_may_come_twice(file: SocketFile, path: Path) -> None:
    file.remove()
    with file.listen():
        file.remove()
        assert not path.exists()
    file.remove()

    again = SocketFile(path)
    with again.listen():
        assert connects(path)
    again.remove()


def test_own_user_may_connect() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert may_connect(one, group=-1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("gid", "groups", "welcome"),
    [(65_534, [], False), (4_242, [], True), (65_534, [4_242], True)],
    ids=["stranger", "by its group", "by another of its groups"],
)
def test_other_user_may_connect_only_by_the_group(
    file: SocketFile, path: Path, gid: int, groups: list[int], welcome: bool
) -> None:
    with file.listen() as listening:
        # The modes would keep a stranger out; the check behind them must hold by itself.
        for folder in (path, path.parent, *list(path.parents)[1:4]):
            if folder != Path("/tmp"):
                folder.chmod(0o777)
        child = os.fork()
        if child == 0:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(65_534)
            os._exit(0 if connects(path) else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        listening.setblocking(True)
        peer, _ = listening.accept()
        with peer:
            assert may_connect(peer, group=4_242) is welcome
