"""The outcome table: what an attempt has come to, by the sign that was seen of it.

One table serves every way in which a handler is invoked. A *sign* is a short text: the status of
an HTTP answer (``404``), the exit code of a command (``exit-75``), the word of a service that pulls
(``complete``), or what became of the connection or process (``closed``, ``signal``). A *fate* is
what it means. The owner of a handler may give signs other fates (``status_map``), and an answer may
name its outcome itself (``Task-Outcome``), which beats the table.

Pure: no I/O, no clock.
"""

import json
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, NamedTuple

from protocol import limits
from protocol.messages import Failure, OutcomeKind, Result

JSON = "application/json"
OCTETS = "application/octet-stream"
PROBLEM = "application/problem+json"
_SECONDS_CHARS_MAX = 12


class Fate(Enum):
    """What a sign means; the names are those that a ``status_map`` uses."""

    SUCCESS = "success"
    LATER = "later"
    """Not ended: the service completes it by a request of its own, with the token."""
    RETRY = "retry"
    DEFER = "defer"
    FATAL = "fatal"
    MISROUTED = "misrouted"
    """This service does not know the handler: given back, and it gets no more for a while."""
    AWAY = "away"
    """Nobody was there to take it: given back."""
    LOST = "lost"
    """It died in the middle: charged, and counted as a crash."""


TABLE: tuple[tuple[Fate, tuple[str, ...]], ...] = (
    (Fate.SUCCESS, ("2xx", "exit-0", "complete")),
    (Fate.LATER, ("202",)),
    (Fate.RETRY, ("408", "5xx", "exit", "fail")),
    (Fate.RETRY, ("timeout", "stalled", "cancelled", "lease-lost")),
    (Fate.RETRY, ("unreadable", "no-outcome")),
    (Fate.DEFER, ("409", "423", "425", "429", "503", "exit-75", "defer", "stopping")),
    (Fate.FATAL, ("3xx", "4xx", "501", "505", "exit-64", "exit-65", "exit-78", "too-large")),
    (Fate.MISROUTED, ("401", "403", "404", "405", "421")),
    (Fate.AWAY, ("refused",)),
    (Fate.LOST, ("closed", "signal")),
)
"""Every sign, or the class that it is of (``4xx``, ``exit``), by its fate. The nearer one holds."""

FATES: dict[str, Fate] = {sign: fate for fate, signs in TABLE for sign in signs}

CHANGEABLE: frozenset[Fate] = frozenset(
    {Fate.SUCCESS, Fate.RETRY, Fate.DEFER, Fate.FATAL, Fate.MISROUTED}
)
"""The fates that a ``status_map`` may give."""
NAMEABLE: frozenset[Fate] = frozenset({Fate.SUCCESS, Fate.RETRY, Fate.DEFER, Fate.FATAL})
"""The fates that an answer may name itself."""

_KINDS = {
    Fate.SUCCESS: OutcomeKind.SUCCESS,
    Fate.RETRY: OutcomeKind.RETRY,
    Fate.DEFER: OutcomeKind.DEFER,
    Fate.FATAL: OutcomeKind.FATAL,
    Fate.MISROUTED: OutcomeKind.RETURNED,
    Fate.AWAY: OutcomeKind.RETURNED,
    Fate.LOST: OutcomeKind.LOST,
}
_WHY = {
    "timeout": "the attempt ran longer than its timeout",
    "stalled": "nothing was heard of the attempt for longer than its heartbeat",
    "cancelled": "the task was cancelled",
    "lease-lost": "the lease of the attempt ended",
    "stopping": "the sidecar stopped before the attempt ended",
    "no-outcome": "the answer ended without a line that tells the outcome",
    "too-large": f"the result is over {limits.RESULT_BYTES_MAX} bytes; store it elsewhere and "
    "answer with its address",
    "closed": "the connection ended in the middle of the attempt",
    "fail": "the service reported a failure",
    "defer": "the service cannot do it now",
}
_LABELS = {"closed": "crash", "signal": "crash", "unreadable": "bad-answer", "fail": "failed"}
"""What failures are called, where that is not the sign."""

Overrides = Mapping[str, Fate]


class Told(NamedTuple):
    """What came with a sign; all of it may be missing, none of it is trusted."""

    body: bytes = b""
    content_type: str = ""
    outcome: str = ""
    """``Task-Outcome``."""
    error_type: str = ""
    """``Task-Error-Type``."""
    retry_after_ms: int | None = None
    why: str = ""
    """For people, where the sign does not say all."""
    detail: str = ""
    """More for people, such as what a command wrote last."""


NOTHING = Told()


class Ending(NamedTuple):
    """What an attempt has come to."""

    fate: Fate
    kind: OutcomeKind
    value: Result | Failure | None


def class_of(sign: str) -> str:
    """Return the class of a sign: ``4xx`` of ``404``, ``exit`` of ``exit-3``."""
    return f"{sign[0]}xx" if sign[:1].isdigit() else sign.partition("-")[0]


def fate_of(sign: str, overrides: Overrides) -> Fate:
    """Return what a sign means to a handler."""
    for table in (overrides, FATES) if overrides else (FATES,):
        fate = table.get(sign) or table.get(class_of(sign))
        if fate is not None:
            return fate
    raise AssertionError(f"no row of the table covers {sign!r}")


def ending(sign: str, told: Told = NOTHING, overrides: Overrides = {}) -> Ending:  # noqa: B006
    """Return what an attempt has come to."""
    fate = fate_of(sign, overrides)
    if told.outcome:
        named = told.outcome.strip().lower()
        if named not in _NAMEABLE_WORDS:
            why = f"Task-Outcome {told.outcome[:40]!r} is none of {', '.join(_NAMEABLE_WORDS)}"
            sign, told, fate = "unreadable", Told(why=why, detail=told.detail), Fate.RETRY
        else:
            fate = Fate(named)
    if fate is Fate.SUCCESS and len(told.body) > limits.RESULT_BYTES_MAX:
        sign, told, fate = "too-large", NOTHING, Fate.FATAL
    if fate is Fate.LATER:
        return Ending(fate, OutcomeKind.RETRY, None)
    if fate is Fate.SUCCESS:
        return Ending(fate, OutcomeKind.SUCCESS, _result(told))
    if fate is Fate.AWAY:
        return Ending(fate, OutcomeKind.RETURNED, None)
    return Ending(fate, _KINDS[fate], _failure(sign, told, fate))


_NAMEABLE_WORDS = tuple(sorted(fate.value for fate in NAMEABLE))


def _result(told: Told) -> Result | None:
    if not told.body and not told.content_type:
        return None
    content_type: str | None = told.content_type or OCTETS
    if _media_type(told.content_type) == JSON:
        content_type = None  # What a result is when nothing is said.
    elif len(told.content_type) > limits.CONTENT_TYPE_CHARS_MAX:
        content_type = OCTETS
    return Result(content_type, told.body) if told.body else None


def _failure(sign: str, told: Told, fate: Fate) -> Failure:
    said = _said(told)
    label = told.error_type or said.error_type or _label(sign, fate)
    why = told.why or _WHY.get(sign) or _why(sign)
    message = f"{why}: {said.message}" if said.message and sign != "fail" else said.message or why
    return Failure(
        _cut(label, limits.ERROR_TYPE_CHARS_MAX),
        _cut(message, limits.ERROR_MESSAGE_CHARS_MAX),
        _cut(said.detail, limits.ERROR_DETAIL_CHARS_MAX),
        None if told.retry_after_ms is None else min(told.retry_after_ms, limits.DELAY_MS_MAX),
    )


def _label(sign: str, fate: Fate) -> str:
    if fate is Fate.MISROUTED:
        return "misrouted"
    return _LABELS.get(sign) or (f"http-{sign}" if sign[:1].isdigit() else sign)


def _why(sign: str) -> str:
    if sign[:1] == "3":
        return f"the service answered {sign}; redirects are never followed"
    if sign[:1].isdigit():
        return f"the service answered {sign}"
    return f"the command ended with {sign.replace('-', ' ')}"


def _said(told: Told) -> Failure:
    """Read what a failed attempt says about itself: a problem (RFC 9457), or any text."""
    media = _media_type(told.content_type)
    if told.body and media in (PROBLEM, JSON):
        try:
            members = json.loads(told.body)
        except (ValueError, RecursionError):
            members = None
        if isinstance(members, dict):
            return _problem(members, told)
    text = told.detail or told.body[: 4 * limits.ERROR_DETAIL_CHARS_MAX].decode("utf-8", "replace")
    return Failure("", "", text)


def _problem(members: dict[str, Any], told: Told) -> Failure:
    def text(*names: str) -> str:
        return next((v for n in names if isinstance(v := members.get(n), str) and v), "")

    kind = text("error_type", "type")
    return Failure(
        "" if kind == "about:blank" else kind,
        text("message", "title"),
        text("detail") or told.detail,
    )


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def tail(data: bytes) -> str:
    """Return as much of the end of a log as a failure holds."""
    text = data.decode("utf-8", "replace")
    limit = limits.ERROR_DETAIL_CHARS_MAX
    return text if len(text) <= limit else "…" + text[1 - limit :]


def retry_after_ms(seconds_or_date: str, milliseconds: str, now_ms: int) -> int | None:
    """Read ``Retry-After`` and ``Task-Retry-After-Ms``; what cannot be read says nothing.

    Args:
        seconds_or_date: Whole seconds, or a date of HTTP.
        milliseconds: Wins where it can be read.
        now_ms: Wall clock.
    """
    for text, factor in ((milliseconds, 1), (seconds_or_date, 1000)):
        digits = text.strip()
        if digits.isascii() and digits.isdecimal() and len(digits) <= _SECONDS_CHARS_MAX:
            return min(int(digits) * factor, limits.DELAY_MS_MAX)
    if not seconds_or_date:
        return None
    try:
        date = parsedate_to_datetime(seconds_or_date)
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        wait_ms = int(date.timestamp() * 1000) - now_ms
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait_ms, 0), limits.DELAY_MS_MAX)
