"""Which handlers a sidecar invokes itself, how, and by which rules: from flags, file and discovery.

Text in, values out. Each handler has a table in the file, ``[handlers."email.send"]``; a service
that is asked (``GET /.well-known/tasks``) answers with the same names in JSON.
"""

import difflib
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol import limits
from protocol.errors import InvalidField
from protocol.fields import is_name
from protocol.policy import Policy
from protocol.settings import Kind, Setting, SettingsError, Value, parse
from sidecar.invoke.answers import CHANGEABLE, FATES, Fate, class_of

PUSH, PULL, EXEC = "push", "pull", "exec"
SLOTS = {PUSH: 16, PULL: 1000, EXEC: os.cpu_count() or 1}
"""Attempts at one time where nothing else is said. With pull, the readers decide."""
_DAY = limits.DAY_MS

TABLE = (
    Setting("transport", Kind.CHOICE, None, "How it is invoked.", choices=(PUSH, PULL, EXEC)),
    Setting("slots", Kind.INTEGER, None, "Attempts at one time.", 1, limits.CONCURRENCY_MAX),
    Setting("heartbeat", Kind.DURATION, 0, "Silence that ends an attempt.", 0, 7 * _DAY),
    Setting("cloudevents", Kind.FLAG, False, "Whether it gets the headers of CloudEvents."),
    Setting("timeout", Kind.DURATION, None, "Longest run of one attempt.", 1, 7 * _DAY),
    Setting("attempts", Kind.INTEGER, None, "Charged attempts.", 1, limits.ATTEMPTS_MAX),
    Setting("backoff_min", Kind.DURATION, None, "Shortest wait before a retry.", 0, _DAY),
    Setting("backoff_max", Kind.DURATION, None, "Longest wait before a retry.", 0, 30 * _DAY),
    Setting("concurrency", Kind.INTEGER, None, "Over all sidecars.", 0, limits.CONCURRENCY_MAX),
    Setting("crashes", Kind.INTEGER, None, "Deaths that a task may cause.", 1, limits.ATTEMPTS_MAX),
    Setting("deferrals", Kind.INTEGER, None, "Uncharged ends.", 0, limits.DEFERRALS_MAX),
    Setting("start_within", Kind.DURATION, None, "Objective: begun so soon.", 0, 7 * _DAY),
)
"""What the table of a handler may hold, beside ``command`` and ``status_map``."""
_ROWS = {row.name: row for row in TABLE}
_KNOWN = (*_ROWS, "command", "status_map")
_POLICY = {
    "timeout": "timeout_ms",
    "attempts": "attempts_max",
    "backoff_min": "backoff_ms_min",
    "backoff_max": "backoff_ms_max",
    "concurrency": "concurrency",
    "crashes": "crashes_max",
    "deferrals": "deferrals_max",
    "start_within": "start_within_ms",
}
_CHANGEABLE_SIGN = re.compile(r"[2-5][0-9][0-9]|[2-5]xx|exit(-[0-9]{1,3})?|signal|closed|timeout")


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler that the sidecar invokes."""

    name: str
    transport: str
    slots: int
    command: tuple[str, ...] = ()
    """Run for each task, where the transport is exec."""
    policy: dict[str, int] = field(default_factory=dict)
    heartbeat_ms: int = 0
    """Silence that ends an attempt; 0 is none."""
    status_map: dict[str, Fate] = field(default_factory=dict)
    cloudevents: bool = False


def full_name(service: str, name: str) -> str:
    """Return a handler's whole name: one without a dot is of this service.

    Raises:
        ValueError: It is no name, or of another service.
    """
    whole = name if "." in name else f"{service}.{name}"
    if not is_name(whole):
        raise ValueError(f"{name[:80]!r} is no name: up to 64 of a-z, 0-9, '.', '_', '-'")
    if not whole.startswith(f"{service}.") or whole == f"{service}.":
        raise ValueError(f"{whole!r} is not of service {service!r}: name it {service}.SOMETHING")
    return whole


def read(
    service: str,
    *,
    push: Sequence[str],
    pull: Sequence[str],
    commands: Sequence[str],
    tables: object,
) -> tuple[Handler, ...]:
    """Return the handlers that flags and file name together; flags win.

    Raises:
        SettingsError: Something in them cannot be taken; names all of it.
    """
    problems: list[str] = []
    given = _tables(service, tables, problems)
    named: list[tuple[str, str, str | None]] = [(PUSH, name, None) for name in push]
    named += [(PULL, name, None) for name in pull]
    command: str | None
    for text in commands:
        name, equals, command = text.partition("=")
        if equals and command.strip():
            named.append((EXEC, name.strip(), command))
        else:
            problems.append(f"exec = {text[:80]!r}: expected HANDLER=COMMAND")
    seen: set[str] = set()
    for transport, name, command in named:
        try:
            whole = full_name(service, name)
        except ValueError as error:
            problems.append(f"{transport} = {error}")
            continue
        if whole in seen:
            problems.append(f"{transport} = {name!r}: the handler is named twice")
        seen.add(whole)
        table = given.setdefault(whole, {})
        table["transport"] = transport
        if command is not None:
            table["command"] = command
    handlers = []
    for name, table in given.items():
        try:
            handlers.append(build(name, table))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return tuple(handlers)


def _tables(service: str, tables: object, problems: list[str]) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, dict):
        problems.append("handlers: expected a table for each handler, such as [handlers.send]")
        return {}
    made: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        try:
            whole = full_name(service, name)
        except ValueError as error:
            problems.append(f"handlers: {error}")
            continue
        if isinstance(table, dict):
            made[whole] = dict(table)
        else:
            problems.append(
                f'handlers.{name}: expected a table; write [handlers."{name}"] where the name '
                "has a dot"
            )
    return made


def build(name: str, table: Mapping[str, Any], transport: str | None = None) -> Handler:
    """Return the handler that a table describes.

    Args:
        name: Its whole name.
        table: What is said of it.
        transport: Where the table names none.

    Raises:
        SettingsError: Something in it cannot be taken.
    """
    problems = [_unknown(name, key) for key in table if key not in _KNOWN]
    values: dict[str, Value] = {}
    for key, row in _ROWS.items():
        values[key] = row.default
        if key in table:
            try:
                values[key] = parse(row, table[key])
            except ValueError as error:
                problems.append(f"handlers.{name}.{key}: {error}")
    kind = values["transport"] or transport
    if kind is None and "command" in table:
        kind = EXEC
    if kind is None:
        problems.append(f"handlers.{name}: transport is not given; one of push, pull, exec")
    command = _command(name, table.get("command"), kind, problems)
    status_map = _status_map(name, table.get("status_map", {}), problems)
    policy: dict[str, int] = {}
    try:
        changes = {to: values[key] for key, to in _POLICY.items() if values[key] is not None}
        policy = Policy().with_changes(changes).changes()
    except InvalidField as error:
        problems.append(f"handlers.{name}: {error.detail}")
    if problems:
        raise SettingsError(problems)
    assert isinstance(kind, str)
    return Handler(
        name=name,
        transport=kind,
        slots=int(values["slots"] or SLOTS[kind]),  # type: ignore[arg-type]
        command=command,
        policy=policy,
        heartbeat_ms=int(values["heartbeat"] or 0),  # type: ignore[arg-type]
        status_map=status_map,
        cloudevents=bool(values["cloudevents"]),
    )


def _unknown(name: str, key: str) -> str:
    near = difflib.get_close_matches(key, _KNOWN, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_KNOWN)}"
    return f"handlers.{name}: nothing is called {key[:80]!r}; {hint}"


def _command(name: str, raw: object, kind: object, problems: list[str]) -> tuple[str, ...]:
    if raw is None:
        if kind == EXEC:
            problems.append(f"handlers.{name}: exec needs a command")
        return ()
    try:
        parts = shlex.split(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        problems.append(f"handlers.{name}.command: {error}")
        return ()
    if (
        not isinstance(parts, list)
        or not parts
        or not all(isinstance(p, str) and "\0" not in p for p in parts)
    ):
        problems.append(f"handlers.{name}.command: expected a text, or a list of texts")
        return ()
    if kind != EXEC:
        problems.append(f"handlers.{name}.command: only a handler with transport exec has one")
    elif shutil.which(parts[0]) is None:
        problems.append(f"handlers.{name}.command: {parts[0]!r}: no such program can be run")
    return tuple(parts)


def _status_map(name: str, raw: object, problems: list[str]) -> dict[str, Fate]:
    if not isinstance(raw, dict):
        problems.append(f"handlers.{name}.status_map: expected a table of signs and outcomes")
        return {}
    words = {fate.value: fate for fate in CHANGEABLE}
    made = {}
    for sign, word in raw.items():
        if not _CHANGEABLE_SIGN.fullmatch(sign) or not {sign, class_of(sign)} & set(FATES):
            problems.append(
                f"handlers.{name}.status_map: {sign[:40]!r} is no sign; give a status (404, 5xx), "
                "exit-3, exit, signal, closed or timeout"
            )
        elif word not in words:
            problems.append(
                f"handlers.{name}.status_map: {sign} = {word!r:.40}; expected one of "
                f"{', '.join(sorted(words))}"
            )
        else:
            made[sign] = words[word]
    return made
