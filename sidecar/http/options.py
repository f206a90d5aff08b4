"""What may be said about a task over HTTP, in the words of the protocol.

The same names stand in a query, in the lines of a batch and, where HTTP has a custom of its own,
in headers. Ranges are the protocol's to check.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from protocol.errors import Code, InvalidField
from protocol.messages import Priority
from protocol.options import OPTIONS, Form
from sidecar.http.problems import Problem
from sidecar.http.times import duration_ms, instant_ms, invalid

BACKOFF_FORMS = "a duration, or exp(SHORTEST,LONGEST) such as exp(1s,5m)"
DURABILITIES = ("accepted", "spooled")
META_HEADER = "task-meta-"
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")

_BACKOFF = re.compile(r"exp\(([^,()]{1,64}),([^,()]{1,64})\)")
_PRIORITIES = {p.name.lower(): int(p) for p in Priority}
_FORMS = {name: form for name, form in OPTIONS.items() if isinstance(form, Form)}
"""Options that are no number."""


def _delay(value: Any) -> dict[str, Any]:
    return {"delay_ms": duration_ms("delay", value)}


def _at(value: Any) -> dict[str, Any]:
    return {"at_ms": instant_ms("at", value)}


def _priority(value: Any) -> dict[str, Any]:
    number = _PRIORITIES.get(value) if type(value) is str else None
    if number is None:
        raise invalid("priority", value, f"one of {', '.join(_PRIORITIES)}")
    return {"priority": number}


def _collection(value: Any) -> dict[str, Any]:
    return {"collection": value}


def _timeout(value: Any) -> dict[str, Any]:
    return {"timeout_ms": duration_ms("timeout", value)}


def _attempts(value: Any) -> dict[str, Any]:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if type(value) is not int:
        raise invalid("attempts", value, "a whole number")
    return {"attempts_max": value}


def _backoff(value: Any) -> dict[str, Any]:
    found = _BACKOFF.fullmatch(value) if type(value) is str else None
    if found is None and (type(value) is not str or "(" in value):
        raise invalid("backoff", value, BACKOFF_FORMS)
    first, last = (found[1].strip(), found[2].strip()) if found else (value, value)
    shortest, longest = duration_ms("backoff", first), duration_ms("backoff", last)
    if shortest > longest:
        raise invalid("backoff", value, f"{BACKOFF_FORMS}, the shorter one first")
    return {"backoff_ms_min": shortest, "backoff_ms_max": longest}


def _expires(value: Any) -> dict[str, Any]:
    return {"expires_ms": duration_ms("expires", value)}


def _key(value: Any) -> dict[str, Any]:
    return {"key": value}


READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "delay": _delay,
    "at": _at,
    "priority": _priority,
    "collection": _collection,
    "timeout": _timeout,
    "attempts": _attempts,
    "backoff": _backoff,
    "expires": _expires,
    "key": _key,
}
"""Options by the name that they have in a query and in a line of a batch."""


def read_options(given: Mapping[str, Any], *, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return options given by name; those in ``also`` are the caller's to read.

    Raises:
        Problem: A name is not known, or a value cannot be read.
    """
    made: dict[str, Any] = {}
    for name, value in given.items():
        reader = READERS.get(name)
        if reader is not None:
            made |= reader(value)
        elif name not in also:
            raise _unknown(name, [*READERS, *also])
    return made


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Check that nothing is said that has no meaning here.

    Raises:
        Problem: A name is not known.
    """
    for name in given:
        if name not in known:
            raise _unknown(name, list(known))


def read_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that stand in headers.

    Trace context that is not as it must be is left out, as its specification asks: a task must not
    fail for it.

    Raises:
        Problem: A header cannot be read.
    """
    made: dict[str, Any] = {}
    meta: dict[str, str] = {}
    for name, value in headers.items():
        if name in TRACE_HEADERS:
            if _well_formed(name, value):
                made[name] = value
        elif name == "idempotency-key":
            made["key"] = _unquoted(value)
        elif name.startswith(META_HEADER):
            meta[name[len(META_HEADER) :]] = value
    if "traceparent" not in made:
        made.pop("tracestate", None)
    if meta:
        made["meta"] = meta
    return made


def read_durability(headers: Mapping[str, str]) -> bool:
    """Return whether the sidecar may answer ``spooled``.

    Raises:
        Problem: The header asks for something else.
    """
    wanted = headers.get("task-durability")
    if wanted is not None and wanted not in DURABILITIES:
        raise invalid("Task-Durability", wanted, f"one of {', '.join(DURABILITIES)}")
    return wanted != "accepted"


def _well_formed(name: str, value: str) -> bool:
    try:
        _FORMS[name].check(name, value)
    except InvalidField:
        return False
    return True


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value


def _unknown(name: str, known: list[str]) -> Problem:
    near = difflib.get_close_matches(name[:64], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known) or 'none'}"
    return Problem(400, Code.UNKNOWN_OPTION, f"no option is called {name[:64]!r}", hint)
