"""A handler as its module sees it: the plain function, which can also be submitted."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast

from protocol import limits
from protocol.errors import InvalidField
from protocol.fields import is_name
from protocol.policy import Policy
from sidecar.sdk.errors import InvalidHandler
from sidecar.sdk.new_task import NewTask, Options
from sidecar.sdk.parameters import Parameters
from sidecar.sdk.runner import Runner
from sidecar.sdk.task import BlockingTask, Task
from sidecar.sdk.times import Duration, duration_ms

if TYPE_CHECKING:
    from sidecar.sdk.blocking import Client
    from sidecar.sdk.client import AsyncClient
    from sidecar.sdk.service import Service

__all__ = ["Handler", "Submitter"]

P = ParamSpec("P")
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

THREADS_MAX = 1024
"""Slots of a handler that blocks: each is a thread."""


class Submitter(Generic[P, R_co]):
    """Submits tasks of one handler with options; made by ``Handler.options``."""

    def __init__(
        self, service: "Service", name: str, parameters: Parameters, options: Options
    ) -> None:
        self._service = service
        self._name = name
        self._parameters = parameters
        self._options = options

    def task(self, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """Return the task that ``submit`` would submit, for ``submit_many``.

        Raises:
            TypeError: The function could not be called with these arguments.
        """
        payload = self._parameters.payload(args, kwargs)
        return NewTask(handler=self._name, payload=payload, **self._options)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Task[R_co]:
        """Submit a call of the handler with these arguments; return when it is durable.

        Raises:
            Rejected, Busy, Unavailable, Refused: As ``AsyncClient.submit``.
        """
        client: AsyncClient = self._service.client
        return cast("Task[R_co]", await client.submit_task(self.task(*args, **kwargs)))

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> BlockingTask[R_co]:
        """Submit likewise from code that blocks; not on an event loop's thread."""
        client: Client = self._service.blocking_client
        return cast("BlockingTask[R_co]", client.submit_task(self.task(*args, **kwargs)))

    def options(self, **options: Unpack[Options]) -> "Submitter[P, R_co]":
        """Return a submitter with these options in addition; see ``NewTask``."""
        merged = cast(Options, {**self._options, **options})
        return Submitter(self._service, self._name, self._parameters, merged)


class Handler(Submitter[P, R_co], Generic[P, C_co, R_co]):
    """One declared handler; calling it calls the plain function.

    Attributes:
        name: The full name, ``email.send``.
        policy: How its attempts are bounded and spaced.
        slots: Concurrent attempts in one process.
    """

    __name__: str
    """Of the plain function."""

    def __init__(
        self,
        service: "Service",
        name: str,
        function: Callable[P, C_co],
        policy: Policy,
        slots: int,
    ) -> None:
        super().__init__(service, name, Parameters(name, function), {})
        self.name = name
        self.policy = policy
        self.slots = slots
        self.is_async = inspect.iscoroutinefunction(function)
        if not self.is_async and slots > THREADS_MAX:
            raise InvalidHandler(
                name, f"concurrency is {slots}; a function that blocks takes 1 to {THREADS_MAX}"
            )
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """Call the plain function, here and now."""
        return self._function(*args, **kwargs)

    def runner(self) -> Runner:
        """Return a new runner of this handler, for one event loop."""
        return Runner(
            self.name, self._function, self._parameters, slots=self.slots, is_async=self.is_async
        )

    def __repr__(self) -> str:
        return f"<Handler {self.name}>"


def full_name(service: str, name: str | None, function: Callable[..., Any]) -> str:
    """Return a handler's full name.

    Raises:
        InvalidHandler: It is no name; says how to give one.
    """
    own = name if name is not None else getattr(function, "__name__", "")
    full = own if own.startswith(f"{service}.") else f"{service}.{own}"
    if not is_name(full) or full == f"{service}.":
        raise InvalidHandler(
            full[:80],
            "a name is up to 64 characters of a-z, 0-9, '.', '_' and '-'; "
            'give one with @service.handler("name")',
        )
    return full


def checked_policy(
    handler: str,
    given: dict[str, tuple[str, Any]],
    backoff: tuple[Duration | None, Duration | None],
) -> Policy:
    """Return a policy from what the owner of a handler gave.

    Args:
        handler: Its name, for errors.
        given: By field of ``Policy``: the argument's name and its value.
        backoff: The shortest and the longest wait; one that is missing follows the other.

    Raises:
        InvalidHandler: A value is not accepted; names the argument.
    """
    policy = Policy()
    for field, (argument, value) in given.items():
        checked = _ms(handler, argument, value) if field.endswith("_ms") else value
        policy = _changed(handler, policy, {field: checked}, {field: argument})
    low, high = (
        None if value is None else _ms(handler, argument, value)
        for argument, value in zip(("backoff_min", "backoff_max"), backoff, strict=True)
    )
    if low is None:
        low = policy.backoff_ms_min if high is None else min(policy.backoff_ms_min, high)
    if high is None:
        high = max(policy.backoff_ms_max, low)
    names = {"backoff_ms_min": "backoff_min", "backoff_ms_max": "backoff_max"}
    changes = {"backoff_ms_min": low, "backoff_ms_max": high}
    return _changed(handler, policy, changes, names)


def _ms(handler: str, argument: str, value: Any) -> int:
    try:
        return duration_ms(argument, value)
    except ValueError as error:
        raise InvalidHandler(handler, str(error)) from None


def _changed(
    handler: str, policy: Policy, changes: dict[str, Any], arguments: dict[str, str]
) -> Policy:
    """Return a changed policy; errors name the arguments, not the fields."""
    try:
        return policy.with_changes(changes)
    except InvalidField as error:
        told = error.detail.removeprefix("policy field ")
        for field, argument in arguments.items():
            told = told.replace(field, argument)
        unit = " milliseconds" if any("_ms" in field for field in arguments) else ""
        raise InvalidHandler(handler, told + unit) from None


def checked_slots(handler: str, slots: int) -> int:
    """Return the concurrency in this process.

    Raises:
        InvalidHandler: It is out of range.
    """
    if type(slots) is not int or not 1 <= slots <= limits.CONCURRENCY_MAX:
        raise InvalidHandler(
            handler, f"concurrency is {slots!r}; expected 1 to {limits.CONCURRENCY_MAX}"
        )
    return slots
