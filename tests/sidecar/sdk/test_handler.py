import asyncio
from typing import Any

import pytest

from protocol.policy import Policy
from sidecar import InvalidHandler, NewTask, Service


async def test_plain_call_stays_a_plain_call() -> None:
    service = Service("email")

    @service.handler()
    async def send(to: str) -> str:
        return to.upper()

    @service.handler()
    def count(words: str) -> int:
        return len(words.split())

    assert await send("a") == "A"
    assert count("a b") == 2


def test_handler_keeps_the_name_and_doc_of_its_function() -> None:
    service = Service("email")

    @service.handler()
    def send(to: str) -> None:
        """Send it."""

    assert (send.__name__, send.__doc__) == ("send", "Send it.")
    assert repr(send) == "<Handler email.send>"


def test_defaults_are_those_of_the_protocol() -> None:
    service = Service("email")

    @service.handler()
    def send(to: str) -> None: ...

    assert send.policy == Policy()
    assert service.handlers == {"email.send": send}


@pytest.mark.parametrize("name", ["later", "email.later"])
def test_name_may_be_given_with_or_without_the_service(name: str) -> None:
    @Service("email").handler(name)
    def send(to: str) -> None: ...

    assert send.name == "email.later"


def test_task_is_what_submit_would_submit() -> None:
    service = Service("email")

    @service.handler()
    def send(to: str, copies: int = 1) -> None: ...

    later = send.options(delay="10m", priority="low").options(priority="high")

    assert send.task("a") == NewTask(handler="email.send", payload={"to": "a"})
    assert later.task("a", copies=2) == NewTask(
        handler="email.send", payload={"to": "a", "copies": 2}, delay="10m", priority="high"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "No Good"}, "a-z"),
        ({"name": ""}, "a-z"),
        ({"name": "x" * 64}, "64 characters"),
        ({"timeout": "soon"}, "timeout: 'soon' is no duration"),
        ({"timeout": 0}, "timeout is 0; expected 1 to"),
        ({"timeout": "8d"}, "timeout is 691200000; expected 1 to 604800000 milliseconds"),
        ({"attempts": 0}, "attempts is 0; expected 1 to 1000"),
        ({"attempts": "3"}, "attempts is '3'"),
        ({"backoff_min": -1}, "backoff_min is -1"),
        (
            {"backoff_min": "1h", "backoff_max": "1m"},
            "backoff_min (3600000) is over backoff_max (60000) milliseconds",
        ),
        ({"limit": -1}, "limit is -1"),
        ({"crashes": 0}, "crashes is 0"),
        ({"deferrals": 5000}, "deferrals is 5000"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": 5000}, "concurrency is 5000; a function that blocks takes 1 to 1024"),
    ],
)
def test_wrong_declaration_is_refused_at_once_by_name(changes: dict[str, Any], words: str) -> None:
    def send(to: str) -> None: ...

    with pytest.raises(InvalidHandler) as raised:
        Service("email").handler(**changes)(send)
    assert words in str(raised.value)
    assert str(raised.value).startswith("handler email.")


@pytest.mark.parametrize(
    ("given", "backoff"),
    [
        ({"backoff_min": "1h"}, (3_600_000, 3_600_000)),
        ({"backoff_max": "200ms"}, (200, 200)),
        ({"backoff_min": "1s", "backoff_max": "2h"}, (1000, 7_200_000)),
    ],
)
def test_the_end_of_the_backoff_that_is_not_given_follows_the_other(
    given: dict[str, Any], backoff: tuple[int, int]
) -> None:
    @Service("email").handler(**given)
    def send(to: str) -> None: ...

    assert (send.policy.backoff_ms_min, send.policy.backoff_ms_max) == backoff


def test_missing_parentheses_are_explained() -> None:
    def send(to: str) -> None: ...

    with pytest.raises(InvalidHandler, match="with parentheses"):
        Service("email").handler(send)  # type: ignore[arg-type]


def test_one_name_is_declared_once() -> None:
    service = Service("email")
    service.handler("send")(lambda: None)

    with pytest.raises(InvalidHandler, match="declared twice"):
        service.handler("send")(lambda: None)


def test_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidHandler, match="give one with"):
        Service("email").handler()(lambda: None)


@pytest.mark.parametrize("name", ["", "E-Mail", "x" * 65])
def test_service_name_is_checked(name: str) -> None:
    with pytest.raises(ValueError, match="a-z"):
        Service(name)


def test_service_without_handlers_is_not_run() -> None:
    with pytest.raises(InvalidHandler, match="has none"):
        Service("email").run()


async def test_submit_sync_on_an_event_loop_is_refused_not_blocked(tmp_path: Any) -> None:
    service = Service("email", tmp_path / "sidecar.sock")

    @service.handler()
    def send(to: str) -> None: ...

    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="would block the event loop"):
        send.submit_sync("a")


def test_socket_is_beside_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILLION_SIDECAR_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Service("email").socket == "/run/user/7/pillion/email/sidecar.sock"

    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Service("email").socket == "/run/pillion/email/sidecar.sock"

    monkeypatch.setenv("PILLION_SIDECAR_SOCKET", "/elsewhere.sock")
    assert Service("email").socket == "/elsewhere.sock"
    assert Service("email", "/given.sock").socket == "/given.sock"
