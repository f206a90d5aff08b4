"""What an attempt came to: return values and exceptions in the protocol's words."""

import json
import traceback
from typing import Any

from protocol import limits
from protocol.messages import Failure, OutcomeKind, Result
from sidecar.sdk.control import Defer, Fatal, Retry
from sidecar.sdk.new_task import OCTETS
from sidecar.sdk.parameters import InvalidPayload

Ending = tuple[OutcomeKind, Result | Failure | None]

SUCCESS: Ending = (OutcomeKind.SUCCESS, None)
_FRAMES_MAX = 20
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def returned(value: Any) -> Ending:
    """Return the ending of an attempt that returned ``value``.

    A value that cannot be kept is fatal: the work is done, and doing it again would not help.
    """
    if value is None:
        return SUCCESS
    try:
        result = (
            Result(OCTETS, value)
            if isinstance(value, bytes)
            else Result(None, _encode(value).encode())
        )
    except (TypeError, ValueError, RecursionError) as error:
        return _fatal("InvalidResult", f"the return value cannot be written as JSON: {error}")
    size = len(result.body)
    if size > limits.RESULT_BYTES_MAX:
        return _fatal(
            "InvalidResult",
            f"the return value has {size} bytes; the limit is {limits.RESULT_BYTES_MAX}. "
            "Store it elsewhere and return its address",
        )
    return OutcomeKind.SUCCESS, result


def raised(error: BaseException) -> Ending:
    """Return the ending of an attempt that raised ``error``."""
    match error:
        case Retry():
            return OutcomeKind.RETRY, _failure("Retry", error.reason, _cause(error), error.after_ms)
        case Defer():
            return OutcomeKind.DEFER, _failure("Defer", error.reason, "", error.after_ms)
        case Fatal():
            return OutcomeKind.FATAL, _failure("Fatal", error.reason, _cause(error))
        case InvalidPayload():
            return _fatal("InvalidPayload", str(error))
        case _:
            return OutcomeKind.RETRY, _failure(
                type(error).__name__, _message(error), _traceback(error, frames_own=1)
            )


def stopped(reason: str) -> Ending:
    """Return the ending of an attempt that had to stop before it ended.

    Stopping the service is no fault of the task and is not charged; an overrun is.
    """
    if reason == "stopping":
        message = "the service stopped before the attempt ended"
        return OutcomeKind.DEFER, Failure(reason, message, "", 0)
    message = "the attempt overran its timeout" if reason == "timeout" else f"revoked: {reason}"
    return OutcomeKind.RETRY, _failure(reason, message, "")


def _fatal(error_type: str, message: str) -> Ending:
    return OutcomeKind.FATAL, _failure(error_type, message, "")


def _failure(error_type: str, message: str, detail: str, after_ms: int | None = None) -> Failure:
    return Failure(
        _text(error_type, limits.ERROR_TYPE_CHARS_MAX),
        _text(message, limits.ERROR_MESSAGE_CHARS_MAX),
        _text(detail, limits.ERROR_DETAIL_CHARS_MAX, keep_end=True),
        None if after_ms is None else min(after_ms, limits.DELAY_MS_MAX),
    )


def _text(text: str, chars_max: int, *, keep_end: bool = False) -> str:
    # Lone surrogates cannot travel, and an error must not fail to be told.
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= chars_max:
        return text
    return "…" + text[1 - chars_max :] if keep_end else text[: chars_max - 1] + "…"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # The user's own __str__ may fail.
        return f"<no message: __str__ raised {type(broken).__name__}>"


def _traceback(error: BaseException, *, frames_own: int = 0) -> str:
    frames = error.__traceback__
    for _ in range(frames_own):
        frames = frames.tb_next if frames is not None and frames.tb_next is not None else frames
    try:
        return "".join(traceback.format_exception(type(error), error, frames, limit=-_FRAMES_MAX))
    except Exception as broken:
        return f"<no traceback: {type(broken).__name__}>"


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    return "" if cause is None else _traceback(cause)
