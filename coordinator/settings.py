"""The coordinator's settings: the table, and the frozen values built from it once at start."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.errors import CoordinatorError
from protocol import limits
from protocol.settings import Kind, Setting, SettingsError, Values, resolve

PREFIX = "PILLION_COORDINATOR_"
_MIB, _GIB, _TIB = 2**20, 2**30, 2**40
_SECOND, _DAY = limits.SECOND_MS, limits.DAY_MS
_STORE_SHARE_PERCENT = 80
_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.*-]+):([0-9]{1,5})")
_HTTP_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
SOCKET_PATH_BYTES_MAX = 100
"""Of the 107 that Linux takes, so that names beside it fit too."""

TOKEN_CHARS_MIN = 16

TABLE = (
    Setting("bind", Kind.TEXT, "tcp://127.0.0.1:7711", "Address for sidecars; port 0 takes any."),
    Setting(
        "insecure_bind",
        Kind.FLAG,
        False,
        "Bind beyond loopback without encryption or keys, where the network itself is trusted.",
    ),
    Setting(
        "data_dir",
        Kind.PATH,
        None,
        "Folder of the store; by default $XDG_STATE_HOME/pillion or ~/.local/state/pillion.",
    ),
    Setting("http", Kind.FLAG, True, "Offer the HTTP side: API, metrics, health."),
    Setting(
        "http_bind",
        Kind.TEXT,
        "127.0.0.1:7712",
        "Host and port of the HTTP side; port 0 takes any. Beyond loopback a token is needed.",
    ),
    Setting(
        "http_socket",
        Kind.PATH,
        None,
        "Unix socket of the HTTP side, for this user only; by default http.sock in data_dir.",
    ),
    Setting(
        "http_token_file",
        Kind.PATH,
        None,
        "File with the token that requests over TCP must bear.",
    ),
    Setting(
        "session_timeout",
        Kind.DURATION,
        10 * _SECOND,
        "A sidecar that is silent for so long loses its leases.",
        low=500,  # The margin is at least 250 ms: less would leave a sidecar no time to run.
        high=600 * _SECOND,
    ),
    Setting(
        "retention_succeeded",
        Kind.DURATION,
        3600 * _SECOND,
        "How long a succeeded task and its result are kept.",
        high=3653 * _DAY,
    ),
    Setting(
        "retention_dead",
        Kind.DURATION,
        30 * _DAY,
        "How long a dead task is kept for a person to look at.",
        high=3653 * _DAY,
    ),
    Setting(
        "retention_other",
        Kind.DURATION,
        None,
        "The same for cancelled, expired and dropped tasks; by default as retention_succeeded.",
        high=3653 * _DAY,
    ),
    Setting(
        "store_map_size",
        Kind.SIZE,
        64 * _GIB,
        "Address space reserved for the store: what it can ever hold. Takes no disk by itself.",
        low=16 * _MIB,
        high=64 * _TIB,
    ),
    Setting(
        "store_bytes_max",
        Kind.SIZE,
        0,
        "Used bytes from which submits are refused; 0 means 80 % of store_map_size.",
        high=64 * _TIB,
    ),
    Setting(
        "disk_free_min",
        Kind.SIZE,
        256 * _MIB,
        "Free disk under which submits are refused, so that outcomes can still be recorded.",
        high=64 * _TIB,
    ),
    Setting(
        "allow_filesystem",
        Kind.FLAG,
        False,
        "Take a filesystem for the store that is refused otherwise (network, FUSE, overlay).",
    ),
    Setting(
        "event_loop",
        Kind.CHOICE,
        "uvloop",
        "The event loop; asyncio is slower, and there to compare.",
        choices=("uvloop", "asyncio"),
    ),
    Setting(
        "ready_file",
        Kind.PATH,
        None,
        "File that is written with the bound address once the coordinator serves.",
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What one coordinator process runs with; read once, checked once."""

    bind: str
    insecure_bind: bool
    data_dir: Path
    http: bool
    http_bind: str
    http_socket: Path | None
    """None where the path by default would be too long for a socket."""
    http_token_file: Path | None
    session_timeout_ms: int
    retention_succeeded_ms: int
    retention_dead_ms: int
    retention_other_ms: int
    store_map_bytes: int
    store_bytes_max: int
    """Used bytes from which submits are refused; never 0 here."""
    disk_free_bytes_min: int
    allow_filesystem: bool
    event_loop: str
    ready_file: Path | None
    log_format: str
    log_level: str

    @property
    def durations(self) -> dict[str, int]:
        """What the core's ``Config`` takes of them, by name."""
        return {
            "session_timeout_ms": self.session_timeout_ms,
            "retention_succeeded_ms": self.retention_succeeded_ms,
            "retention_dead_ms": self.retention_dead_ms,
            "retention_other_ms": self.retention_other_ms,
        }


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
        [_with_default(setting, environ) for setting in TABLE],
        prefix=PREFIX,
        flags=flags,
        environ=environ,
        file_text=file_text,
        file_name=file_name,
    )


def build(values: Values) -> Settings:
    """Return the settings that the values make together.

    Raises:
        SettingsError: Values that exclude each other.
    """
    other_ms = values.number_or_none("retention_other")
    succeeded_ms = values.number("retention_succeeded")
    map_bytes = values.number("store_map_size")
    settings = Settings(
        bind=values.text("bind"),
        insecure_bind=values.flag("insecure_bind"),
        data_dir=Path(values.text("data_dir")),
        http=values.flag("http"),
        http_bind=values.text("http_bind"),
        http_socket=_http_socket(values),
        http_token_file=_path(values, "http_token_file"),
        session_timeout_ms=values.number("session_timeout"),
        retention_succeeded_ms=succeeded_ms,
        retention_dead_ms=values.number("retention_dead"),
        retention_other_ms=succeeded_ms if other_ms is None else other_ms,
        store_map_bytes=map_bytes,
        store_bytes_max=values.number("store_bytes_max") or map_bytes * _STORE_SHARE_PERCENT // 100,
        disk_free_bytes_min=values.number("disk_free_min"),
        allow_filesystem=values.flag("allow_filesystem"),
        event_loop=values.text("event_loop"),
        ready_file=_path(values, "ready_file"),
        log_format=values.text("log_format"),
        log_level=values.text("log_level"),
    )
    _check_together(settings, values)
    return settings


def _with_default(setting: Setting, environ: Mapping[str, str]) -> Setting:
    if setting.name != "data_dir":
        return setting
    state = environ.get("XDG_STATE_HOME", "")
    # The specification asks to ignore a relative path.
    base = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    return replace(setting, default=str(base / "pillion"))


def _check_together(settings: Settings, values: Values) -> None:
    problems = []
    address = _ADDRESS.fullmatch(settings.bind)
    shown = f"bind = {settings.bind!r} ({values['bind'].origin})"
    if address is None or int(address[2]) > 65535:
        problems.append(f"{shown}: expected tcp://HOST:PORT, such as tcp://127.0.0.1:7711")
    elif not settings.insecure_bind and not is_loopback(address[1]):
        problems.append(
            f"{shown}: anyone who reaches this address could submit and take tasks. Bind to "
            "loopback, or set insecure_bind if the network itself is trusted"
        )
    problems += _http_problems(settings, values)
    if settings.store_bytes_max > settings.store_map_bytes:
        problems.append(
            f"store_bytes_max ({values['store_bytes_max'].origin}) is over "
            f"store_map_size ({values['store_map_size'].origin}); lower it or raise the other"
        )
    if problems:
        raise SettingsError(problems)


def _http_problems(settings: Settings, values: Values) -> list[str]:
    if not settings.http:
        return []
    problems = []
    shown = f"http_bind = {settings.http_bind!r} ({values['http_bind'].origin})"
    address = _HTTP_ADDRESS.fullmatch(settings.http_bind)
    if address is None or int(address[2]) > 65535:
        problems.append(f"{shown}: expected HOST:PORT, such as 127.0.0.1:7712")
    elif not is_loopback(address[1]) and settings.http_token_file is None:
        problems.append(
            f"{shown}: anyone who reaches this address could look at tasks. Bind to loopback, or "
            "set http_token_file to a file with a token"
        )
    if settings.http_socket and len(bytes(settings.http_socket)) > SOCKET_PATH_BYTES_MAX:
        problems.append(
            f"http_socket ({values['http_socket'].origin}) has {len(bytes(settings.http_socket))} "
            f"bytes; a socket's path may have {SOCKET_PATH_BYTES_MAX}. Choose a shorter one"
        )
    return problems


def _http_socket(values: Values) -> Path | None:
    given = _path(values, "http_socket")
    path = given or Path(values.text("data_dir")).absolute() / "http.sock"
    return path if given or len(bytes(path)) <= SOCKET_PATH_BYTES_MAX else None


def _path(values: Values, name: str) -> Path | None:
    text = values.text_or_none(name)
    return Path(text) if text else None


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of an ``http_bind`` that has been checked."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def read_token(file: Path | None) -> str:
    """Return the token of the HTTP side; empty if there is no file for it.

    Raises:
        CoordinatorError: There is a file, and no good token in it.
    """
    if file is None:
        return ""
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CoordinatorError(f"http_token_file {file} cannot be read: {error}") from None
    if len(token) < TOKEN_CHARS_MIN or not token.isprintable() or " " in token:
        raise CoordinatorError(
            f"http_token_file {file} holds no token: expected {TOKEN_CHARS_MIN} characters or more "
            "in one line, such as openssl rand -hex 32 makes"
        )
    return token


def is_loopback(host: str) -> bool:
    """Say whether a host of an address can be reached from this machine only."""
    if host in ("localhost", "lo"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
