import dataclasses
from pathlib import Path

import pytest

from coordinator.settings import PREFIX, TABLE, Settings, build, is_loopback, read
from protocol.settings import SettingsError

HOME = {"HOME": "/home/anna"}


def settings(**flags: object) -> Settings:
    return build(read(flags=flags, environ={}))


def problem(**flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**flags)
    return str(caught.value)


def test_it_works_on_loopback_with_no_configuration() -> None:
    defaults = settings()

    assert defaults.bind == "tcp://127.0.0.1:7711"
    assert defaults.session_timeout_ms == 10_000
    assert defaults.retention_succeeded_ms == 3_600_000
    assert defaults.retention_dead_ms == 30 * 86_400_000
    assert defaults.store_map_bytes == 64 * 2**30
    assert defaults.disk_free_bytes_min == 256 * 2**20
    assert defaults.ready_file is None


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert len(dataclasses.fields(Settings)) == len(TABLE)
    assert len({setting.name for setting in TABLE}) == len(TABLE)


def test_every_default_lies_in_its_own_range() -> None:
    for setting in TABLE:
        if type(setting.default) is int:
            assert setting.low <= setting.default <= setting.high, setting.name


@pytest.mark.parametrize(
    ("state", "folder"),
    [
        ({"XDG_STATE_HOME": "/srv/state"}, "/srv/state/pillion"),
        ({"XDG_STATE_HOME": "relative"}, "/home/anna/.local/state/pillion"),
        ({}, "/home/anna/.local/state/pillion"),
    ],
)
def test_data_lies_in_the_users_state_folder_by_default(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, str], folder: str
) -> None:
    monkeypatch.setenv("HOME", HOME["HOME"])

    assert build(read(flags={}, environ=state)).data_dir == Path(folder)


def test_other_ended_tasks_are_kept_as_succeeded_ones_unless_set() -> None:
    assert settings(retention_succeeded="5m").retention_other_ms == 300_000
    assert settings(retention_succeeded="5m", retention_other="0").retention_other_ms == 0


def test_soft_limit_is_four_fifths_of_the_map_unless_set() -> None:
    assert settings(store_map_size="100MiB").store_bytes_max == 80 * 2**20
    assert settings(store_map_size="100MiB", store_bytes_max="1MiB").store_bytes_max == 2**20


def test_soft_limit_over_the_map_is_refused() -> None:
    found = problem(store_map_size="100MiB", store_bytes_max="101MiB")

    assert found.startswith("store_bytes_max (flag --store-bytes-max) is over store_map_size")


@pytest.mark.parametrize(
    "bind", ["tcp://0.0.0.0:7711", "tcp://*:7711", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://db:1"]
)
def test_bind_beyond_loopback_needs_a_word(bind: str) -> None:
    assert "Bind to loopback, or set insecure_bind" in problem(bind=bind)
    assert settings(bind=bind, insecure_bind=True).bind == bind


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://[::1]:1", "tcp://localhost:65535"])
def test_bind_to_loopback_is_taken(bind: str) -> None:
    assert settings(bind=bind).bind == bind


@pytest.mark.parametrize(
    "bind",
    ["127.0.0.1:7711", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "ipc:///x", "tcp://a b:1"],
)
def test_bind_that_is_no_address_is_refused_with_an_example(bind: str) -> None:
    found = problem(bind=bind, insecure_bind=True)

    assert f"bind = {bind!r} (flag --bind): expected tcp://HOST:PORT" in found


def test_environment_and_file_name_each_setting_alike() -> None:
    values = read(
        flags={},
        environ={PREFIX + "SESSION_TIMEOUT": "2s"},
        file_text='log_level = "debug"',
        file_name="x.toml",
    )

    assert build(values).session_timeout_ms == 2_000
    assert build(values).log_level == "debug"
    assert values["log_level"].origin == "file x.toml"


def test_loopback_is_told_from_the_rest() -> None:
    assert is_loopback("127.8.8.8")
    assert is_loopback("[::1]")
    assert not is_loopback("localhost.example.org")
