"""Keep a connection to the sidecar: dial, attach, and dial again when it breaks.

Service, app and sidecar start in any order, so a socket that is not there yet is waited for, and
what is waited for is said in the log.
"""

import asyncio
import errno
import logging
import random
from typing import Protocol

from protocol import local
from protocol.errors import CODES
from protocol.messages import Attach, Attached, Goodbye, Message, Refused
from protocol.version import LOCAL_MAGIC
from sidecar.sdk import errors
from sidecar.sdk.connection import Connection

LOG = logging.getLogger("pillion")

BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 2.0
ATTACH_S_MAX = 5.0
"""How long the sidecar may take to answer ATTACH."""
STABLE_S = 1.0
"""A connection that lived this long was a success: the backoff begins anew after it."""
SAY_AGAIN_S = 30.0
"""How often a wait that goes on is logged."""

_WHY = {
    errno.ENOENT: "there is no such socket; is the sidecar running?",
    errno.ECONNREFUSED: "nobody listens there; is the sidecar running?",
    errno.EACCES: "not permitted; this user must be in the group of the sidecar's socket",
    errno.EAGAIN: "the sidecar's queue of connections is full",
}


class Peer(Protocol):
    """What uses the link: a client or a service."""

    def attach(self) -> Attach:
        """Return how to introduce oneself."""

    def attached(self, connection: Connection) -> None:
        """The connection is open."""

    def received(self, messages: list[Message]) -> None:
        """Messages have arrived on the open connection."""

    def drained(self) -> None:
        """The open connection is writable again."""

    def lost(self, reason: str) -> None:
        """The open connection is gone."""

    def wanted(self) -> bool:
        """Tell whether to go on dialling."""


class Link:
    """Dials ``path`` for its peer until it is stopped, refused, or not wanted any more.

    Args:
        path: The sidecar's socket.
        peer: Who uses the link.
        who: For the log: ``service email``.
    """

    def __init__(self, path: str, peer: Peer, who: str) -> None:
        self.path = path
        self._peer = peer
        self._who = who
        self.trouble = ""
        """Why there is no connection at present."""
        self._trouble_since = 0.0
        self._said_at: float | None = None

    async def run(self) -> None:
        """Keep the connection.

        Raises:
            Refused: The sidecar refuses it, and would again.
        """
        loop = asyncio.get_running_loop()
        self._trouble_since = loop.time()
        tries = 0
        while self._peer.wanted():
            session = _Session(self._peer)
            try:
                await self._open(session)
            except (OSError, TimeoutError, _TryAgain) as error:
                self._say(loop.time(), _why(error))
            else:
                began = loop.time()
                self._attached(began)
                try:
                    reason = await session.gone
                finally:
                    session.abort("stopped")
                self._trouble_since = loop.time()
                self.trouble = reason
                if loop.time() - began >= STABLE_S:
                    tries = 0
                if not self._peer.wanted():
                    break
                LOG.warning("%s: connection to the sidecar lost: %s", self._who, reason)
            wait = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(tries, 10))
            tries += 1
            await asyncio.sleep(wait * (1 - random.random() / 2))

    async def _open(self, session: "_Session") -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ATTACH_S_MAX):
                _, connection = await loop.create_unix_connection(
                    lambda: Connection(session), self.path
                )
                session.connection = connection
                connection.write(LOCAL_MAGIC + local.frame(self._peer.attach()))
                await session.answered
        except BaseException:
            session.abort("no attachment")
            raise

    def _say(self, now: float, why: str) -> None:
        self.trouble = why
        if self._said_at is None or now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            waited = now - self._trouble_since
            LOG.warning(
                "%s: waiting for the sidecar at %s since %.0f s: %s",
                self._who,
                self.path,
                waited,
                why,
            )

    def _attached(self, now: float) -> None:
        if self._said_at is not None:
            LOG.warning(
                "%s: attached to the sidecar after %.1f s", self._who, now - self._trouble_since
            )
        self._said_at = None
        self.trouble = ""


class _TryAgain(Exception):
    """Raised when the sidecar refuses the connection for now."""


class _Session:
    """One connection from dialling to its end; hands on to the peer once it is attached."""

    def __init__(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        self._peer = peer
        self.connection: Connection | None = None
        self.answered: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[str] = loop.create_future()
        self._open = False

    def received(self, messages: list[Message]) -> None:
        if not self._open:
            if not self._take_answer(messages[0]):
                return
            messages = messages[1:]
        for message in messages:
            if isinstance(message, Refused | Goodbye):
                self.abort(_farewell(message))
                return
        if messages:
            self._peer.received(messages)

    def _take_answer(self, message: Message) -> bool:
        assert self.connection is not None
        if self.answered.done():
            return False
        if isinstance(message, Attached):
            self._open = True
            self.answered.set_result(None)
            self._peer.attached(self.connection)
            return True
        self.answered.set_exception(_refusal(message))
        return False

    def drained(self) -> None:
        if self._open:
            self._peer.drained()

    def lost(self, reason: str) -> None:
        was_open, self._open = self._open, False
        if not self.answered.done():
            self.answered.set_exception(_TryAgain(reason))
        if not self.gone.done():
            self.gone.set_result(reason)
        if was_open:
            self._peer.lost(reason)

    def abort(self, reason: str) -> None:
        if not self.answered.done():
            self.answered.cancel()
        if self.connection is not None:
            self.connection.abort(reason)


def _refusal(message: Message) -> Exception:
    if not isinstance(message, Refused):
        return _TryAgain(f"answered ATTACH with {type(message).__name__}")
    facts = CODES.get(message.code)
    if facts is not None and facts.retry:
        return _TryAgain(f"{message.detail} [{message.code}]")
    return errors.Refused(message.code, message.detail)


def _farewell(message: Refused | Goodbye) -> str:
    if isinstance(message, Goodbye):
        return f"the sidecar is leaving: {message.reason}"
    return f"the sidecar refused what was sent: {message.detail} [{message.code}]"


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer to ATTACH within {ATTACH_S_MAX:g} s"
    if isinstance(error, OSError) and error.errno in _WHY:
        return _WHY[error.errno]
    return str(error) or type(error).__name__
