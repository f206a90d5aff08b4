"""Run a command that asks the API: find the coordinator, repeat if watched, name what is wrong.

Exit codes: 1 somebody who was asked said no; 2 usage; 3 there is no such thing; 4 conflict; 5 no
coordinator answers; 6 not permitted; 75 at a limit, try again; 124 the wait was over first; 130
interrupted.
"""

import sys
from collections.abc import Callable

from coordinator.commands.api import Api, NotPermitted, Place, Refused, Unreachable
from coordinator.commands.output import UnknownColumn, tell
from coordinator.settings import Settings, build, host_and_port, read_token
from protocol.complaints import asks_json, complaint
from protocol.settings import Values

EXIT_DECLINED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_PERMITTED = 1, 2, 5, 6
EXIT_TIMED_OUT, EXIT_INTERRUPTED = 124, 130
_EXITS = {400: 2, 401: 6, 403: 6, 404: 3, 409: 4, 412: 4, 429: 75, 503: 75, 507: 75}


class Usage(Exception):
    """Raised when a command cannot be meant as it was given."""


class Declined(Exception):
    """Raised when somebody was asked, and said no."""


class TimedOut(Exception):
    """Raised when what was waited for has not happened in time."""


_ENDS: dict[type[Exception], tuple[int, str]] = {
    NotPermitted: (EXIT_NOT_PERMITTED, "not_permitted"),  # Before what it is a kind of.
    Unreachable: (EXIT_UNREACHABLE, "unreachable"),
    UnknownColumn: (EXIT_USAGE, "usage"),
    Usage: (EXIT_USAGE, "usage"),
    Declined: (EXIT_DECLINED, "declined"),
    TimedOut: (EXIT_TIMED_OUT, "timed_out"),
}
"""With what exit code each error ends, and its word for programs."""


def run(
    values: Values, ask: Callable[[Api], None], watch_ms: int | None = None, form: str = "table"
) -> int:
    """Run a command and return its exit code.

    Args:
        values: The settings, which say where the coordinator is.
        ask: Asks and writes.
        watch_ms: How often to do so again; None means once.
        form: The format of what it writes.

    Raises:
        SettingsError: The settings do not say where to ask.
        CoordinatorError: The token cannot be read.
    """
    try:
        api = Api(place_of(build(values), values))
        if watch_ms is None:
            ask(api)
        else:
            from coordinator.commands.watching import watch  # noqa: PLC0415 (seldom needed)

            watch(lambda: ask(api), watch_ms, form)
    except Refused as error:
        return _fail(str(error), exit_code(error), error.code, error.hint)
    except tuple(_ENDS) as error:
        code, word = next(_ENDS[kind] for kind in _ENDS if isinstance(error, kind))
        return _fail(str(error), code, word)
    return 0


def place_of(settings: Settings, values: Values) -> Place:
    """Return where to ask: a place that was named by a flag, or else the socket and the port.

    Raises:
        CoordinatorError: The token cannot be read.
    """
    by_flag = {name for name in ("data_dir", "http_socket", "http_bind") if _is_flag(values, name)}
    host, port = host_and_port(settings.http_bind)
    socket = settings.http_socket
    if by_flag and "http_bind" not in by_flag:
        port = 0  # There may be another coordinator under the usual port.
    elif by_flag == {"http_bind"}:
        socket = None
    return Place(socket, host, port, read_token(settings.http_token_file))


def exit_code(problem: Refused) -> int:
    """Return the exit code for an answer that is a problem."""
    return _EXITS.get(problem.status, 1)


def _is_flag(values: Values, name: str) -> bool:
    return values[name].origin.startswith("flag ")


def _fail(text: str, exit_code: int, code: str, hint: str = "") -> int:
    as_json = asks_json(sys.argv[1:])
    said = complaint("pillion-coordinator", text, exit_code, code=code, hint=hint, as_json=as_json)
    tell(said.rstrip("\n"))
    return exit_code
