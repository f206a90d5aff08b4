"""What one attempt tells while it goes on, from whichever thread, merged until it is sent."""

import json
import threading
from typing import Any

from protocol import limits
from protocol.messages import Update

_LOCK = threading.Lock()
"""One for all attempts: it is held for a few assignments."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Telling:
    """What has been told of one attempt and not been sent.

    Args:
        nothing: An update of the attempt that tells nothing.
    """

    __slots__ = ("_fresh", "_nothing", "checkpoint")

    def __init__(self, nothing: Update) -> None:
        self._nothing = nothing
        self._fresh: Update | None = None
        self.checkpoint: bytes | None = None
        """The latest one, sent or not."""

    def add(self, fraction: float | None, note: str, checkpoint: Any) -> bool:
        """Add what is told; return whether nothing waited before.

        Raises:
            ValueError: It cannot be taken.
        """
        permille = -1 if fraction is None else _permille(fraction)
        saved = None if checkpoint is None else _bytes_of(checkpoint)
        if len(note) > limits.NOTE_CHARS_MAX:
            note = f"{note[: limits.NOTE_CHARS_MAX - 1]}…"
        with _LOCK:
            before = self._fresh
            base = before or self._nothing
            if saved is not None:
                self.checkpoint = saved
            self._fresh = Update(
                base.id,
                base.token,
                base.permille if permille < 0 else permille,
                note or base.note,
                base.checkpoint if saved is None else saved,
            )
        return before is None

    def take(self) -> Update | None:
        """Return what has not been sent, which is sent now."""
        with _LOCK:
            fresh, self._fresh = self._fresh, None
        return fresh


def _permille(fraction: float) -> int:
    if not 0 <= fraction <= 1:  # Nor is NaN.
        raise ValueError(f"the fraction is {fraction!r}; expected a number from 0 to 1")
    return round(fraction * 1000)


def _bytes_of(checkpoint: Any) -> bytes:
    if isinstance(checkpoint, bytes):
        data = checkpoint
    elif isinstance(checkpoint, str):
        data = checkpoint.encode()
    else:
        try:
            data = _encode(checkpoint).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the checkpoint cannot be written as JSON: {error}") from None
    if len(data) > limits.CHECKPOINT_BYTES_MAX:
        raise ValueError(
            f"the checkpoint has {len(data)} bytes; the limit is {limits.CHECKPOINT_BYTES_MAX}. "
            "Store it elsewhere and save its address"
        )
    return data
