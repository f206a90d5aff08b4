import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator.cli import main
from coordinator.settings import PREFIX, TABLE, build, read
from protocol.version import SOFTWARE


class Result(NamedTuple):
    code: object
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["pillion-coordinator", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return Result(caught.value.code, *capsys.readouterr())

    return run_it


def test_version_is_that_of_the_software(run: Run) -> None:
    assert run("--version") == (0, f"pillion-coordinator, version {SOFTWARE}\n", "")


@pytest.mark.parametrize("command", ["serve", "config"])
def test_help_shows_each_setting_with_default_and_variable(run: Run, command: str) -> None:
    text = " ".join(run(command, "--help").out.split())

    for setting in TABLE:
        assert setting.flag in text
        assert setting.variable(PREFIX) in text
    assert "[default: 10s; env: PILLION_COORDINATOR_SESSION_TIMEOUT]" in text


def test_config_prints_each_value_with_its_origin_as_a_file_that_gives_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.toml"
    file.write_text('log_level = "debug"\n')
    monkeypatch.setenv("PILLION_COORDINATOR_CONFIG", str(file))
    monkeypatch.setenv("PILLION_COORDINATOR_DISK_FREE_MIN", "1GiB")

    result = run("config", "--session-timeout", "3s", "--insecure-bind")

    assert result.code == 0
    assert 'session_timeout = "3s"  # flag --session-timeout' in result.out
    assert 'disk_free_min = "1GiB"  # environment PILLION_COORDINATOR_DISK_FREE_MIN' in result.out
    assert f'log_level = "debug"  # file {file}' in result.out
    assert "insecure_bind = true  # flag --insecure-bind" in result.out
    again = build(read(flags={}, environ={}, file_text=result.out))
    assert again.session_timeout_ms == 3_000


def test_wrong_setting_is_named_and_ends_with_2(run: Run) -> None:
    result = run("serve", "--session-timeout", "1ms")

    assert result.code == 2
    assert result.err.startswith("pillion-coordinator: session_timeout = '1ms' (flag --session-")


def test_unknown_flag_ends_with_2(run: Run) -> None:
    result = run("serve", "--sesion-timeout", "1s")

    assert result.code == 2
    assert "--session-timeout" in result.err


def test_file_that_cannot_be_read_is_named_and_ends_with_2(run: Run, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    for file in (tmp_path / "missing", tmp_path, binary):
        result = run("config", "--config", str(file))
        assert result.code == 2
        assert f"--config {file}: cannot be read" in result.err


def test_unknown_key_in_the_file_ends_with_2(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("session_timeot = '1s'\n")

    result = run("serve", "--config", str(file))

    assert result.code == 2
    assert "did you mean 'session_timeout'?" in result.err


def test_store_that_is_refused_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    command = [sys.executable, "-m", "coordinator", "serve", "--bind", "tcp://127.0.0.1:0"]

    result = subprocess.run(
        [*command, "--allow-filesystem", "--data-dir", str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 3
    assert "set data_dir to another one" in result.stderr
