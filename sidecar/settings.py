"""The sidecar's settings: the table, and the frozen values built from it once at start."""

import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from protocol import limits
from protocol.fields import is_name
from protocol.settings import Kind, Setting, SettingsError, Values, resolve
from sidecar.invoke import handlers
from sidecar.invoke.address import BadAddress, parse
from sidecar.invoke.hosts import Invoking
from sidecar.tracing.relation import AUTO, RELATIONS, Tracing

PREFIX = "PILLION_SIDECAR_"
_SECOND = limits.SECOND_MS
_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
_ENDPOINT = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9_.~%/-]*)?"
)

TABLE = (
    Setting("service", Kind.TEXT, None, "The service beside which this sidecar runs; required."),
    Setting("coordinator", Kind.TEXT, "tcp://127.0.0.1:7711", "Address of the coordinator."),
    Setting(
        "socket",
        Kind.PATH,
        None,
        "Socket for apps and services; by default $XDG_RUNTIME_DIR/pillion/SERVICE/sidecar.sock, "
        "or the same under /run.",
    ),
    Setting("name", Kind.TEXT, None, "What operators know it by; SERVICE@HOST by default."),
    Setting(
        "drain",
        Kind.DURATION,
        25 * _SECOND,  # Fits into the usual 30 s between SIGTERM and SIGKILL.
        "After SIGTERM, how long running attempts may go on.",
        high=24 * 3600 * _SECOND,
    ),
    Setting(
        "cancel_grace",
        Kind.DURATION,
        5 * _SECOND,
        "How long an attempt that is told to stop has before it is reported without its word.",
        high=3600 * _SECOND,
    ),
    Setting(
        "submit_timeout",
        Kind.DURATION,
        10 * _SECOND,
        "How long a submission waits for the coordinator before its app is told so.",
        low=100,
        high=3600 * _SECOND,
    ),
    Setting(
        "spool_dir",
        Kind.PATH,
        None,
        "Folder for submissions while the coordinator is away; by default below "
        "$XDG_STATE_HOME/pillion/spool or ~/.local/state/pillion/spool.",
    ),
    Setting(
        "no_spool",
        Kind.FLAG,
        False,
        "Keep no spool: submitting fails while the coordinator is away, and outcomes that it did "
        "not record are lost with the sidecar.",
    ),
    Setting(
        "spool_after",
        Kind.DURATION,
        _SECOND,
        "A submission without an answer for so long is spooled, and its app told so; at most half "
        "of submit_timeout.",
        high=3600 * _SECOND,
    ),
    Setting(
        "spool_max",
        Kind.SIZE,
        2**30,
        "How much may be spooled; beyond it apps are told to wait.",
        low=2**20,
        high=2**40,
    ),
    Setting(
        "spool_age",
        Kind.DURATION,
        limits.DAY_MS,
        "A batch that was spooled longer ago is not replayed by itself.",
        low=_SECOND,
        high=3653 * limits.DAY_MS,
    ),
    Setting(
        "app",
        Kind.TEXT,
        None,
        "Where the service listens for tasks that are pushed: a socket's path, or "
        "http://127.0.0.1:PORT; by default app.sock beside the socket. Without any --push the "
        "service is asked for its handlers.",
    ),
    Setting(
        "push",
        Kind.LIST,
        (),
        "A handler that the service has behind POST /tasks/HANDLER; any number of them.",
        item="HANDLER",
    ),
    Setting(
        "pull",
        Kind.LIST,
        (),
        "A handler that is asked for by GET /v1/next; need not be named before it is.",
        item="HANDLER",
    ),
    Setting(
        "exec",
        Kind.LIST,
        (),
        "A handler that is a command: payload on stdin, result on stdout.",
        item="HANDLER=COMMAND",
        separator="\n",
    ),
    Setting(
        "discover",
        Kind.FLAG,
        False,
        "Ask the service for its handlers: GET /.well-known/tasks.",
    ),
    Setting(
        "processes",
        Kind.INTEGER,
        1,
        "With a COMMAND: how many processes of it to run.",
        low=1,
        high=256,
    ),
    Setting(
        "recycle_tasks",
        Kind.INTEGER,
        None,
        "With a COMMAND: replace a process that has done so many tasks.",
        low=1,
    ),
    Setting(
        "recycle_age",
        Kind.DURATION,
        None,
        "With a COMMAND: replace a process that is so old.",
        low=_SECOND,
        high=365 * 24 * 3600 * _SECOND,
    ),
    Setting(
        "recycle_memory",
        Kind.SIZE,
        None,
        "With a COMMAND: replace a process that uses so much memory.",
        low=limits.MIB,
    ),
    Setting(
        "recycle_grace",
        Kind.DURATION,
        60 * _SECOND,  # More than the 30 s that the SDK's drain takes at most.
        "With a COMMAND: how long a process that is replaced has to end before it is killed.",
        high=24 * 3600 * _SECOND,
    ),
    Setting(
        "kill_grace",
        Kind.DURATION,
        5 * _SECOND,
        "With a COMMAND: how long a process that must end has between SIGTERM and SIGKILL.",
        high=3600 * _SECOND,
    ),
    Setting(
        "otel_endpoint",
        Kind.TEXT,
        None,
        "Collector that gets a span of each attempt by OTLP/HTTP, such as http://127.0.0.1:4318; "
        "none by default. Needs pip install 'pillion[otel]', which reads the usual OTEL_* as well.",
    ),
    Setting(
        "trace_relation",
        Kind.CHOICE,
        AUTO,
        "What a span is to its submitter's trace: child, or a trace of its own that has a link to "
        "it; auto is child for attempts within 30 s of the submission.",
        choices=RELATIONS,
    ),
    Setting(
        "event_loop",
        Kind.CHOICE,
        "uvloop",
        "The event loop; asyncio is slower, and there to compare.",
        choices=("uvloop", "asyncio"),
    ),
    Setting(
        "log_format",
        Kind.CHOICE,
        "auto",
        "Lines for people or for machines; auto looks whether stderr is a terminal.",
        choices=("auto", "console", "json"),
    ),
    Setting(
        "log_level",
        Kind.CHOICE,
        "info",
        "The least severe lines to write.",
        choices=("debug", "info", "warning", "error"),
    ),
)


_OF_PROCESSES = (
    *("processes", "recycle_tasks", "recycle_age", "recycle_memory"),
    *("recycle_grace", "kill_grace"),
)


@dataclass(frozen=True, slots=True)
class Supervision:
    """What processes to run, and for how long; None is never."""

    command: tuple[str, ...]
    processes: int
    recycle_tasks: int | None
    recycle_age_ms: int | None
    recycle_memory_bytes: int | None
    recycle_grace_ms: int
    kill_grace_ms: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What one sidecar process runs with; read once, checked once."""

    service: str
    coordinator: str
    socket: Path
    name: str
    drain_ms: int
    cancel_grace_ms: int
    submit_timeout_ms: int
    spool_dir: Path | None
    """None when there shall be no spool."""
    spool_after_ms: int
    spool_bytes_max: int
    spool_age_ms: int
    event_loop: str
    log_format: str
    log_level: str
    supervision: Supervision | None
    """None if the service is started by other means."""
    invoking: Invoking
    """The handlers that are not invoked natively."""
    tracing: Tracing | None
    """None if no spans are made."""


def _default_socket(service: str) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run"
    return Path(runtime, "pillion", service, "sidecar.sock")


def _default_spool(service: str, socket_path: Path) -> Path:
    """Return a folder that outlives a restart, one for each socket."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    except RuntimeError:
        raise SettingsError(
            [
                "there is no place for the spool: this user has no home folder; name one with "
                "--spool-dir, or run without it by --no-spool"
            ]
        ) from None
    mark = crc32(os.fsencode(socket_path.absolute()))
    return base / "pillion" / "spool" / f"{service}-{mark:08x}"


def read(
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file_text: str | None = None,
    file_name: str = "",
) -> Values:
    """Return each setting's value and origin.

    Raises:
        SettingsError: A name is not known or a value is not accepted.
    """
    return resolve(
        TABLE,
        prefix=PREFIX,
        flags=flags,
        environ=environ,
        file_text=file_text,
        file_name=file_name,
        sections=("handlers",),
    )


def build(values: Values, command: Sequence[str] = ()) -> Settings:
    """Return the settings that the values make together.

    Args:
        values: What ``read`` returned.
        command: What to run and supervise; empty if the service is started by other means.

    Raises:
        SettingsError: A value is missing, or none of its kind.
    """
    service = values.text_or_none("service")
    problems = []
    if service is None:
        problems.append("service is not given; name it with --service, such as --service email")
    elif not is_name(service):
        problems.append(f"service = {service!r}: a name is up to 64 of a-z, 0-9, '.', '_', '-'")
    coordinator = values.text("coordinator")
    address = _ADDRESS.fullmatch(coordinator)
    if address is None or not 0 < int(address[2]) <= 65535:
        problems.append(
            f"coordinator = {coordinator!r} ({values['coordinator'].origin}): expected "
            "tcp://HOST:PORT, such as tcp://127.0.0.1:7711"
        )
    name = values.text_or_none("name") or f"{service}@{socket.gethostname()}"
    if len(name) > limits.ERROR_TYPE_CHARS_MAX:
        problems.append(f"name has {len(name)} characters; at most {limits.ERROR_TYPE_CHARS_MAX}")
    problems += _command_problems(values, command) + _endpoint_problems(values)
    if problems or service is None:
        raise SettingsError(problems)
    socket_path = Path(values.text_or_none("socket") or _default_socket(service))
    invoking = _invoking(values, service, socket_path)
    spool_dir = None
    if not values.flag("no_spool"):
        spool_dir = Path(values.text_or_none("spool_dir") or _default_spool(service, socket_path))
    return Settings(
        service=service,
        coordinator=coordinator,
        socket=socket_path,
        spool_dir=spool_dir,
        spool_after_ms=min(values.number("spool_after"), values.number("submit_timeout") // 2),
        spool_bytes_max=values.number("spool_max"),
        spool_age_ms=values.number("spool_age"),
        name=name,
        drain_ms=values.number("drain"),
        cancel_grace_ms=values.number("cancel_grace"),
        submit_timeout_ms=values.number("submit_timeout"),
        event_loop=values.text("event_loop"),
        log_format=values.text("log_format"),
        log_level=values.text("log_level"),
        supervision=_supervision(values, command),
        invoking=invoking,
        tracing=_tracing(values),
    )


def _invoking(values: Values, service: str, socket_path: Path) -> Invoking:
    served = handlers.read(
        service,
        push=values.texts("push"),
        pull=values.texts("pull"),
        commands=values.texts("exec"),
        tables=values.sections.get("handlers", {}),
    )
    app = values.text_or_none("app")
    pushed = any(handler.transport == handlers.PUSH for handler in served)
    discover = values.flag("discover") or (app is not None and not pushed)
    if not pushed and not discover:
        return Invoking(served)
    try:
        address = parse(app or str(socket_path.with_name("app.sock")))
    except BadAddress as error:
        raise SettingsError([f"app = {error}"]) from None
    return Invoking(served, address, discover)


def _tracing(values: Values) -> Tracing | None:
    endpoint = values.text_or_none("otel_endpoint")
    return None if endpoint is None else Tracing(endpoint, values.text("trace_relation"))


def _endpoint_problems(values: Values) -> list[str]:
    endpoint = values.text_or_none("otel_endpoint")
    if endpoint is None:
        return []
    if "@" in endpoint:
        return [
            "otel_endpoint: a collector's address holds no secret, since it is shown and logged; "
            "give it by OTEL_EXPORTER_OTLP_HEADERS"
        ]
    url = _ENDPOINT.fullmatch(endpoint)
    if url is None or int(url[2] or 1) not in range(1, 65536):
        return [
            f"otel_endpoint = {endpoint[:80]!r} ({values['otel_endpoint'].origin}): expected "
            "http://HOST:PORT or https://HOST, such as http://127.0.0.1:4318"
        ]
    return []


def _command_problems(values: Values, command: Sequence[str]) -> list[str]:
    if command:
        found = shutil.which(command[0]) is not None
        return [] if found else [f"command {command[0]!r}: no such program can be run"]
    return [
        f"{name} is given, but no command to run; put it behind the settings: -- COMMAND..."
        for name in _OF_PROCESSES
        if values[name].origin.startswith("flag")
    ]


def _supervision(values: Values, command: Sequence[str]) -> Supervision | None:
    if not command:
        return None
    return Supervision(
        command=tuple(command),
        processes=values.number("processes"),
        recycle_tasks=values.number_or_none("recycle_tasks"),
        recycle_age_ms=values.number_or_none("recycle_age"),
        recycle_memory_bytes=values.number_or_none("recycle_memory"),
        recycle_grace_ms=values.number("recycle_grace"),
        kill_grace_ms=values.number("kill_grace"),
    )
