"""The apps and services connected to ``sidecar.sock``, and the handlers they declare.

A service may declare only handlers of this sidecar's service. When several connections declare
the same handler, the policy of the one that attached last holds.
"""

from protocol import limits, version
from protocol.errors import Code, InvalidField
from protocol.messages import Attach, Declaration
from protocol.policy import Policy
from sidecar.core.terms import NEVER_MS


class Refusal(Exception):
    """Raised when what a connection sent cannot be taken; the connection is to be closed."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


NAMES_MAX = 100
"""Handlers that are told by name."""


class Peers:
    """All connections, attached or not yet."""

    def __init__(self, service: str, attach_ms: int) -> None:
        self._service = service
        self._attach_ms = attach_ms
        self._unattached: dict[int, int] = {}
        self._declared: dict[int, list[Declaration]] = {}

    def __len__(self) -> int:
        return len(self._unattached) + len(self._declared)

    def open(self, now_ms: int, connection: int) -> None:
        """Add a connection, which must attach in time."""
        self._unattached[connection] = now_ms + self._attach_ms

    def close(self, connection: int) -> bool:
        """Remove a connection; return whether it had declared handlers."""
        self._unattached.pop(connection, None)
        return bool(self._declared.pop(connection, None))

    def known(self, connection: int) -> bool:
        """Tell whether the connection is open."""
        return connection in self._declared or connection in self._unattached

    def attached(self, connection: int) -> bool:
        """Tell whether the connection has attached."""
        return connection in self._declared

    @property
    def all(self) -> list[int]:
        """All open connections."""
        return [*self._declared, *self._unattached]

    @property
    def serving(self) -> list[int]:
        """The connections that have declared handlers."""
        return [number for number, declarations in self._declared.items() if declarations]

    @property
    def services(self) -> int:
        """How many connections have declared handlers."""
        return len(self.serving)

    @property
    def due_ms(self) -> int:
        """When the first connection has had its time to attach."""
        return next(iter(self._unattached.values()), NEVER_MS)

    def overdue(self, now_ms: int) -> list[int]:
        """Return the connections that did not attach in time."""
        return [number for number, due_ms in self._unattached.items() if due_ms <= now_ms]

    def attach(self, connection: int, message: Attach) -> int:
        """Attach a connection; return the version to speak.

        Raises:
            Refusal: It may not attach like this; says why.
        """
        if connection in self._declared:
            raise Refusal(Code.MALFORMED, "ATTACH was sent twice on one connection")
        spoken = version.negotiate(message.version_min, message.version_max)
        if spoken is None:
            raise Refusal(
                Code.UNSUPPORTED_VERSION,
                f"versions {message.version_min} to {message.version_max} are offered; this "
                f"sidecar speaks {version.VERSION_MIN} to {version.VERSION_MAX}",
            )
        self._check_owner(message)
        self._check_slots(message)
        known = {d.handler for d in self.declarations()} | {d.handler for d in message.declarations}
        if len(known) > limits.HANDLERS_PER_SESSION_MAX:
            raise Refusal(
                Code.TOO_MANY_HANDLERS,
                f"{len(known)} handlers; the limit is {limits.HANDLERS_PER_SESSION_MAX}",
            )
        del self._unattached[connection]
        self._declared[connection] = message.declarations
        return spoken

    def _check_owner(self, message: Attach) -> None:
        service = message.service
        if service not in ("", self._service):
            raise Refusal(
                Code.NOT_OWNER,
                f"service {service!r} attaches to the sidecar of {self._service!r}; "
                "give it its own sidecar, or the socket of its own",
            )
        for handler, policy in message.declarations:
            if not service or not handler.startswith(f"{service}.") or handler == f"{service}.":
                raise Refusal(
                    Code.NOT_OWNER,
                    f"handler {handler!r} is not of service {self._service!r}; "
                    f"its name must begin with {self._service + '.'!r}",
                )
            try:
                Policy().with_changes(policy)
            except InvalidField as error:
                raise Refusal(Code.INVALID_OPTION, f"{handler}: {error.detail}") from None

    def _check_slots(self, message: Attach) -> None:
        declared = [d.handler for d in message.declarations]
        slots = dict(message.slots)
        if len(set(declared)) < len(declared) or len(slots) < len(message.slots):
            raise Refusal(Code.MALFORMED, "a handler is declared twice by one ATTACH")
        if set(declared) != set(slots):
            raise Refusal(Code.MALFORMED, "declarations and slots name different handlers")
        for handler, count in message.slots:
            if not 1 <= count <= limits.CONCURRENCY_MAX:
                raise Refusal(
                    Code.INVALID_OPTION,
                    f"{handler} has {count} slots; expected 1 to {limits.CONCURRENCY_MAX}",
                )

    def declarations(self) -> list[Declaration]:
        """Return every handler with the policy that holds, sorted by name."""
        latest = {d.handler: d for given in self._declared.values() for d in given}
        return [latest[handler] for handler in sorted(latest)]

    def handlers_of(self, connection: int) -> list[str]:
        """Return the handlers that one connection declared."""
        return [d.handler for d in self._declared.get(connection, ())]

    def facts(self) -> dict[str, int | str]:
        """Return how many there are, for people and probes; and some names, for completion."""
        names = [declaration.handler for declaration in self.declarations()]
        return {
            "connections": len(self),
            "services": self.services,
            "handlers": len(names),
            "handler_names": ",".join(names[:NAMES_MAX]),
        }
