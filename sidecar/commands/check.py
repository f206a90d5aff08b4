"""One line for a monitoring system or a probe: exits 0 ok, 1 warning, 2 critical, 3 unknown.

Probes fork often and wait for the answer, so this asks over a bare socket and imports next to
nothing. It is also run without the command line's parser, see ``sidecar.cli``.
"""

import os
import socket
from collections.abc import Mapping, Sequence

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
ANSWER_SECONDS = 5.0
ANSWER_BYTES_MAX = 2**20
SOCKET_VARIABLE, SERVICE_VARIABLE = "PILLION_SIDECAR_SOCKET", "PILLION_SIDECAR_SERVICE"

Facts = Mapping[str, int | str]
Judged = tuple[int, str]


def without_parser(arguments: Sequence[str]) -> int | None:
    """Check as the arguments say; None if they need the parser: help, or something wrong."""
    live, path = False, None
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--live":
            live = True
        elif argument == "--socket" and left:
            path = left.pop(0)
        elif argument.startswith("--socket="):
            path = argument[9:]
        else:
            return None
    return check(path, live=live)


def check(path: str | None, *, live: bool) -> int:
    """Write the line and return the exit code.

    Args:
        path: The sidecar's socket; None if the environment names it.
        live: Whether only to look if the process answers.
    """
    path = path or find_socket()
    if not path:
        level, text = UNKNOWN, f"which sidecar? Say --socket PATH, or set {SOCKET_VARIABLE}"
    else:
        level, text = _ask(path, live=live)
    try:  # noqa: SIM105 (a probe imports nothing for it)
        os.write(1, f"PILLION {_WORDS[level]} - {text}\n".encode(errors="replace"))
    except OSError:
        pass  # Nobody reads the line; the exit code is the answer.
    return level


def find_socket(environ: Mapping[str, str] = os.environ) -> str:
    """Return the socket that the environment names, by itself or by the service; or nothing."""
    if path := environ.get(SOCKET_VARIABLE):
        return path
    service = environ.get(SERVICE_VARIABLE)
    runtime = environ.get("XDG_RUNTIME_DIR") or "/run"
    return f"{runtime}/pillion/{service}/sidecar.sock" if service else ""


def _ask(path: str, *, live: bool) -> Judged:
    try:
        status, body = get(path, "/livez" if live else "/v1/sidecar")
    except OSError as error:
        if isinstance(error, TimeoutError):
            return CRITICAL, f"what serves {path} does not answer within {ANSWER_SECONDS:g} s"
        return CRITICAL, f"no sidecar serves {path}: {error.strerror or error}"
    except ValueError as error:
        return UNKNOWN, f"{path}: {error}"
    if status != 200:
        return UNKNOWN, f"the sidecar answers with status {status}"
    if live:
        return OK, "the sidecar answers"
    import json  # noqa: PLC0415 (a probe does without)

    facts = json.loads(body)
    level, findings = judge(facts)
    return level, ("; ".join(findings) or "all is well") + _figures(facts)


def get(path: str, target: str, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """Return status and body of what a sidecar answers.

    Raises:
        OSError: Nobody answers, or not in time.
        ValueError: What answers is no sidecar.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while (part := connection.recv(65536)) and len(answer) < ANSWER_BYTES_MAX:
            answer += part
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or not head.startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("what answers there is no sidecar")
    return int(words[1]), body


def judge(facts: Facts) -> tuple[int, list[str]]:
    """Return how bad it is, and what is."""
    found: list[Judged] = []
    spools = facts["spool"] == "ready"
    if facts["draining"]:
        found.append((WARNING, "it stops"))
    if facts["drained_by"]:
        found.append((WARNING, f"it takes no tasks: {facts['drained_by']}"))
    if facts["link"] != "open":
        text = f"no coordinator at {facts['coordinator']}: {facts['link_trouble'] or 'not yet'}"
        kept = "; submissions are spooled" if spools else "; nothing can be submitted"
        found.append((WARNING if spools else CRITICAL, text + kept))
    if facts["spool"] == "failed":
        found.append((WARNING, "the spool has failed: its log says why"))
    if facts["spool_left_alone"]:
        found.append((WARNING, f"{facts['spool_left_alone']} spooled batches are left alone"))
    found += _judge_processes(str(facts.get("processes", "")))
    return max((level for level, _ in found), default=OK), [
        printable(text) for _, text in sorted(found, key=lambda one: -one[0])
    ]


def _judge_processes(told: str) -> list[Judged]:
    """Return what is wrong with the processes that the sidecar runs, if it runs any."""
    if not told:
        return []
    import json  # noqa: PLC0415 (see above)

    processes = json.loads(told)
    down = [process for process in processes if process["state"] != "serving"]
    if not down:
        return []
    text = f"{len(down)} of {len(processes)} processes do not serve"
    if last := next((process["last_end"] for process in down if process["last_end"]), ""):
        text += f"; the last end: {last}"
    return [(CRITICAL if len(down) == len(processes) else WARNING, text)]


def printable(text: str) -> str:
    """Return a text in one line, with nothing in it that steers a terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _figures(facts: Facts) -> str:
    names = ("handlers", "connections", "tasks_running", "spooled_batches", "outcomes_unrecorded")
    return " | " + " ".join(f"{name}={facts[name]}" for name in names if name in facts)
