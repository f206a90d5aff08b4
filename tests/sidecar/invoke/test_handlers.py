"""Flags and tables become handlers, or errors that name what is wrong."""

from typing import Any

import pytest

from protocol.settings import SettingsError
from sidecar.invoke.address import Address, BadAddress, parse
from sidecar.invoke.answers import Fate
from sidecar.invoke.handlers import Handler, build, read


def handlers(**given: Any) -> tuple[Handler, ...]:
    return read("email", **{"push": (), "pull": (), "commands": (), "tables": {}, **given})


def problems(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        handlers(**given)
    return "\n".join(caught.value.problems)


def test_flags_name_handlers_with_or_without_the_service() -> None:
    made = handlers(push=("send", "email.receipt"), pull=("read",), commands=("up=tr a-z A-Z",))

    assert [(h.name, h.transport) for h in made] == [
        ("email.send", "push"),
        ("email.receipt", "push"),
        ("email.read", "pull"),
        ("email.up", "exec"),
    ]
    assert made[3].command == ("tr", "a-z", "A-Z")


def test_table_tells_everything_and_flags_win() -> None:
    table = {
        "transport": "pull",
        "slots": 3,
        "heartbeat": "10s",
        "timeout": "2m",
        "attempts": 4,
        "backoff_min": "1s",
        "backoff_max": "1m",
        "concurrency": 9,
        "crashes": 2,
        "deferrals": 5,
        "start_within": "10s",
        "cloudevents": True,
        "status_map": {"404": "fatal", "5xx": "defer", "exit-3": "success"},
    }

    [made] = handlers(push=("send",), tables={"email.send": table})

    assert made == Handler(
        name="email.send",
        transport="push",
        slots=3,
        policy={
            "timeout_ms": 120_000,
            "attempts_max": 4,
            "backoff_ms_min": 1_000,
            "backoff_ms_max": 60_000,
            "concurrency": 9,
            "crashes_max": 2,
            "deferrals_max": 5,
            "start_within_ms": 10_000,
        },
        heartbeat_ms=10_000,
        status_map={"404": Fate.FATAL, "5xx": Fate.DEFER, "exit-3": Fate.SUCCESS},
        cloudevents=True,
    )


def test_table_with_a_command_needs_no_transport() -> None:
    [made] = handlers(tables={"up": {"command": ["cat", "-"]}})

    assert (made.name, made.transport, made.command) == ("email.up", "exec", ("cat", "-"))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"push": ("other.send",)}, "'other.send' is not of service 'email'"),
        ({"push": ("Send",)}, "push = 'Send' is no name"),
        ({"push": ("send",), "pull": ("email.send",)}, "'email.send': the handler is named twice"),
        ({"commands": ("up",)}, "expected HANDLER=COMMAND"),
        ({"commands": ("up=",)}, "expected HANDLER=COMMAND"),
        ({"commands": ("up=no-such-program-here",)}, "no such program can be run"),
        ({"commands": ("up='",)}, "No closing quotation"),
        ({"tables": 3}, "expected a table for each handler"),
        ({"tables": {"send": 3}}, "expected a table"),
        ({"tables": {"send": {}}}, "transport is not given"),
        ({"tables": {"send": {"transport": "pushed"}}}, "expected one of push, pull, exec"),
        ({"tables": {"send": {"transport": "exec"}}}, "exec needs a command"),
        ({"tables": {"send": {"transport": "push", "command": "true"}}}, "only a handler with"),
        ({"tables": {"send": {"transport": "push", "slot": 3}}}, "did you mean 'slots'?"),
        ({"tables": {"send": {"transport": "push", "slots": 0}}}, "out of range"),
        ({"tables": {"send": {"transport": "push", "timeout": "soon"}}}, "'soon' is no duration"),
        (
            {"tables": {"send": {"transport": "push", "backoff_min": "1h", "backoff_max": "1s"}}},
            "is over backoff_ms_max",
        ),
        ({"tables": {"send": {"transport": "push", "status_map": {"999": "fatal"}}}}, "no sign"),
        ({"tables": {"send": {"transport": "push", "status_map": {"404": "lost"}}}}, "one of"),
        ({"tables": {"send": {"transport": "push", "status_map": 3}}}, "expected a table"),
    ],
)
def test_what_cannot_be_taken_is_named(given: dict[str, Any], problem: str) -> None:
    assert problem in problems(**given)


def test_all_problems_are_told_at_once() -> None:
    told = problems(push=("x.y",), tables={"send": {"transport": "push", "slots": 0, "z": 1}})

    assert told.count("\n") == 2


def test_slots_have_a_default_for_each_transport() -> None:
    assert build("email.send", {"transport": "push"}).slots == 16
    assert build("email.send", {"transport": "pull"}).slots == 1000
    assert build("email.send", {"command": "true"}).slots >= 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/x/app.sock", Address("/run/x/app.sock")),
        ("http://127.0.0.1:8080", Address("", "127.0.0.1", 8080)),
        ("http://localhost:80/", Address("", "127.0.0.1", 80)),
    ],
)
def test_address_is_a_path_or_a_port_of_loopback(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    "text",
    ["http://10.0.0.1:80", "http://127.0.0.1", "https://127.0.0.1:80", "http://127.0.0.1:0",
     "http://127.0.0.1:80/x", "/" + "x" * 120],
)  # fmt: skip
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(BadAddress):
        parse(text)
