"""All handlers that this sidecar invokes, and the service that has those that are pushed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from protocol.limits import HANDLERS_PER_SESSION_MAX
from protocol.settings import SettingsError
from sidecar.invoke.address import Address
from sidecar.invoke.app import App
from sidecar.invoke.connection import Headers, Whole
from sidecar.invoke.exec import ExecHost
from sidecar.invoke.handlers import EXEC, PULL, PUSH, Handler, build, full_name
from sidecar.invoke.host import Attempts, Host, House
from sidecar.invoke.pull import PullHost
from sidecar.invoke.push import PushHost

DISCOVERY_PATH = "/.well-known/tasks"
DISCOVERY_BYTES_MAX = 256 * 1024
_OK, _NOT_FOUND = 200, 404
H = TypeVar("H", bound=Host)


@dataclass(frozen=True, slots=True)
class Invoking:
    """What the sidecar invokes itself."""

    handlers: tuple[Handler, ...] = ()
    app: Address | None = None
    """Where the service listens, if it does."""
    discover: bool = False
    """Whether the service is asked which handlers it has."""


class Hosts:
    """The hosts of one sidecar.

    Args:
        invoking: What to invoke.
        house: What the hosts share.
        join: Makes a host a peer of the core.
        environment: What commands get beside the particulars of their tasks.
        served_by: Called with the pid of who listens for what is pushed, when it is another one.
    """

    def __init__(
        self,
        invoking: Invoking,
        house: House,
        join: Callable[[Callable[[int], Host]], Host],
        environment: Mapping[str, str],
        *,
        served_by: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._invoking = invoking
        self._house = house
        self._join = join
        self._environment = environment
        self._hosts: dict[str, Host] = {}
        self._app = None
        if invoking.app is not None:
            self._app = App(invoking.app, self._app_turned, served_by)
        self.stopping = False

    @property
    def attempts(self) -> Attempts:
        """All attempts of all hosts."""
        return self._house.attempts

    def start(self) -> None:
        """Attach the hosts, and look for the service."""
        for handler in self._invoking.handlers:
            self._add(handler)
        if self._app is not None:
            self._app.start()

    def drain(self) -> None:
        """Let the readers go that wait; what runs goes on."""
        self.stopping = True
        for host in self._of(PullHost):
            host.dismiss()

    def stop(self) -> None:
        """End everything; may come early, may come twice."""
        self.stopping = True
        for host in list(self._hosts.values()):
            host.abort()
        if self._app is not None:
            self._app.close()

    def _of(self, kind: type[H]) -> list[H]:
        return [host for host in self._hosts.values() if isinstance(host, kind)]

    def _add(self, handler: Handler) -> Host:
        def make(number: int) -> Host:
            if handler.transport == EXEC:
                return ExecHost(number, handler, self._house, self._environment)
            if handler.transport == PULL:
                return PullHost(number, handler, self._house)
            assert self._app is not None
            return PushHost(number, handler, self._house, self._app)

        host = self._hosts[handler.name] = self._join(make)
        host.attach()
        return host

    # --- Pull ----------------------------------------------------------------------------------

    def pulled(self, name: str) -> PullHost:
        """Return the host of a handler that somebody asks for; the first one declares it.

        Raises:
            ValueError: The handler is none of this service, or is invoked in another way.
        """
        whole = full_name(self._house.service, name)
        host = self._hosts.get(whole)
        if host is not None and host.closed:
            host = None
        if host is None:
            if len(self._hosts) >= HANDLERS_PER_SESSION_MAX:
                raise ValueError(
                    f"there are {HANDLERS_PER_SESSION_MAX} handlers; that is the limit"
                )
            handler = build(whole, {}, PULL)
            host = self._join(lambda n: PullHost(n, handler, self._house, self._forgotten))
            self._hosts[whole] = host
            host.attach()
        if not isinstance(host, PullHost):
            raise ValueError(f"{whole!r} is invoked by {host.handler.transport}, not by asking")
        return host

    def _forgotten(self, host: PullHost) -> None:
        self._hosts.pop(host.handler.name, None)

    # --- Push ----------------------------------------------------------------------------------

    def _app_turned(self) -> None:
        """Tell the hosts that the service has come or gone."""
        assert self._app is not None
        name = "app_answers" if self._app.there else "app_away"
        facts: dict[str, int | str] = {"app": str(self._app.address)}
        if not self._app.there:
            facts["detail"] = self._app.why
        self._house.note(name, facts)
        for host in self._of(PushHost):
            host.changed()
        if self._app.there and self._invoking.discover:
            request = (
                f"GET {DISCOVERY_PATH} HTTP/1.1\r\nHost: {self._app.address.authority}\r\n"
                "Accept: application/json\r\n\r\n"
            )
            self._app.call(Discovery(self.discovered, self._not_discovered), request.encode())

    def discovered(self, document: Any) -> None:
        """Take what the service says of its handlers; what is known already stays as it is."""
        tables = document.get("handlers") if isinstance(document, dict) else None
        if not isinstance(tables, list):
            self._not_discovered("expected an object with a list of handlers")
            return
        for table in tables[:HANDLERS_PER_SESSION_MAX]:
            try:
                handler = _described(self._house.service, table)
            except (SettingsError, ValueError) as error:
                self._not_discovered(str(error))
                continue
            if handler.name not in self._hosts and not self.stopping:
                self._add(handler)

    def _not_discovered(self, detail: str) -> None:
        self._house.note("discovery_failed", {"detail": detail[:300]})

    # --- Facts ---------------------------------------------------------------------------------

    def facts(self) -> dict[str, int | str]:
        """Return what people may want to know."""
        made: dict[str, int | str] = {}
        if self._app is not None:
            made["app"] = self._app.facts()
            made["app_connections"] = self._app.connections
        for name, host in list(self._hosts.items())[:_SHOWN_MAX]:
            made[f"handler {name}"] = host.facts()
        return made


_SHOWN_MAX = 32


def _described(service: str, table: object) -> Handler:
    """Return the handler that a service describes.

    Raises:
        ValueError: It does not say which.
        SettingsError: Something that it says cannot be taken.
    """
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError("a handler without a name")
    name = full_name(service, table["name"])
    known = {key: table[key] for key in _DISCOVERABLE if key in table}
    return build(name, known, PUSH)


_DISCOVERABLE: Sequence[str] = (
    *("slots", "heartbeat", "timeout", "attempts", "backoff_min", "backoff_max"),
    *("concurrency", "crashes", "deferrals", "cloudevents"),
)


class Discovery(Whole):
    """The call that asks a service for its handlers."""

    body_bytes_max = DISCOVERY_BYTES_MAX

    def __init__(self, found: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        self._found = found
        self._failed = failed

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """Take the service's document."""
        if status == _NOT_FOUND:
            return  # What the settings say holds.
        if status != _OK:
            self._failed(f"the service answered {status} to GET {DISCOVERY_PATH}")
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            self._failed("what the service answered is not JSON")
        else:
            self._found(document)

    def too_long(self, status: int, headers: Headers, body: bytes) -> None:
        """Give up."""
        self._failed(f"the answer is over {DISCOVERY_BYTES_MAX} bytes")

    def failed(self, sign: str, why: str) -> None:
        """Give up; it is asked again when it comes back."""
        self._failed(why or sign)
