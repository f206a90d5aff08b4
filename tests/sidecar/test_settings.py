"""The sidecar's settings: what it runs with when little is said, and how it says what is wrong."""

import os
import socket
from pathlib import Path

import pytest

from protocol.settings import SettingsError
from sidecar.settings import PREFIX, TABLE, Settings, build, read
from sidecar.tracing.relation import Tracing


def settings(environ: dict[str, str] | None = None, **flags: object) -> Settings:
    return build(read(flags={"service": "email"} | flags, environ=environ or {}))


def problem(environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(environ, **flags)
    return str(caught.value)


def test_the_service_is_all_that_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")

    made = settings()

    assert made.coordinator == "tcp://127.0.0.1:7711"
    assert made.socket == Path("/run/user/7/pillion/email/sidecar.sock")
    assert made.name == f"email@{socket.gethostname()}"
    assert (made.drain_ms, made.cancel_grace_ms) == (25_000, 5_000)
    assert made.submit_timeout_ms == 10_000


def test_socket_lies_under_run_without_a_runtime_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    assert settings().socket == Path("/run/pillion/email/sidecar.sock")


def test_spool_lies_in_the_users_state_and_each_socket_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    one, two = (settings(socket=f"/run/{name}.sock").spool_dir for name in ("one", "two"))
    assert one is not None
    assert one.parent == Path("/state/pillion/spool")
    assert one.name.startswith("email-")
    assert one == settings(socket="/run/one.sock").spool_dir != two

    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ann")
    assert str(settings().spool_dir).startswith("/home/ann/.local/state/pillion/spool/email-")


def test_user_without_a_home_is_told_to_name_a_place_for_the_spool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)

    assert "--spool-dir" in problem()
    assert settings(no_spool=True).spool_dir is None
    assert settings(spool_dir="/spool").spool_dir == Path("/spool")


def test_batch_is_spooled_before_it_would_be_given_up() -> None:
    assert settings().spool_after_ms == 1_000
    assert settings(submit_timeout="300ms").spool_after_ms == 150


def test_missing_service_is_named() -> None:
    assert "--service email" in problem(service=None)


@pytest.mark.parametrize("service", ["E-Mail", "a" * 65, "e mail"])
def test_service_must_be_a_name(service: str) -> None:
    assert f"service = {service!r}" in problem(service=service)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7711", "tcp://host", "tcp://host:0", "tcp://host:65536", "ipc://x"]
)
def test_coordinator_must_be_an_address(address: str) -> None:
    text = problem({f"{PREFIX}COORDINATOR": address})

    assert repr(address) in text
    assert f"environment {PREFIX}COORDINATOR" in text
    assert "tcp://127.0.0.1:7711" in text


@pytest.mark.parametrize("address", ["tcp://[::1]:7711", "tcp://pillion.example.org:1"])
def test_coordinator_may_be_elsewhere(address: str) -> None:
    assert settings(coordinator=address).coordinator == address


def test_name_that_is_too_long_is_refused() -> None:
    assert "at most 128" in problem(name="n" * 129)


def test_unknown_variable_is_an_error_with_the_nearest_name() -> None:
    assert f"did you mean '{PREFIX}DRAIN'?" in problem({f"{PREFIX}DRAINN": "3s"})


def test_several_problems_are_told_at_once() -> None:
    text = problem(service="E", coordinator="x")

    assert len(text.splitlines()) == 2


def test_every_default_lies_in_its_own_range() -> None:
    for setting in TABLE:
        if type(setting.default) is int:
            assert setting.low <= setting.default <= setting.high, setting.name


def test_app_listens_beside_the_socket_by_default() -> None:
    invoking = settings(socket="/run/x/s.sock", push=("send",)).invoking

    assert str(invoking.app) == "/run/x/app.sock"
    assert not invoking.discover
    assert [handler.name for handler in invoking.handlers] == ["email.send"]


def test_without_pushed_handlers_no_service_is_called() -> None:
    assert settings(pull=("send",)).invoking.app is None


@pytest.mark.parametrize(("flag", "value"), [("app", "/run/x/a"), ("discover", True)])
def test_service_is_asked_for_its_handlers_where_none_is_named(flag: str, value: object) -> None:
    invoking = settings(None, socket="/run/x/s.sock", **{flag: value}).invoking

    assert invoking.discover
    assert invoking.app is not None


# --- Traces ------------------------------------------------------------------------------------


def test_no_spans_are_made_unless_a_collector_is_named() -> None:
    assert settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}).tracing is None


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:4318", "https://otel.example/v1/traces", "http://[::1]:4318/"]
)
def test_collector_is_named_by_a_url(endpoint: str) -> None:
    made = settings(otel_endpoint=endpoint)

    assert made.tracing == Tracing(endpoint, "auto")


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4318", "grpc://host:4317", "http://", "http://h/?token=x", "http://h:99999"],
)
def test_what_is_no_collectors_url_is_refused(endpoint: str) -> None:
    assert "expected http://HOST:PORT" in problem(otel_endpoint=endpoint)


def test_collectors_url_with_a_secret_is_refused_and_not_repeated() -> None:
    said = problem(otel_endpoint="https://user:secret@otel.example")

    assert "OTEL_EXPORTER_OTLP_HEADERS" in said
    assert "secret@" not in said
