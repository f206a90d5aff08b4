"""Handles on submitted tasks: the id, and ways to ask about it."""

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from protocol.ids import to_text
from sidecar.sdk.status import TaskStatus

if TYPE_CHECKING:
    from sidecar.sdk.blocking import Client
    from sidecar.sdk.client import AsyncClient

__all__ = ["BlockingTask", "Task"]

R_co = TypeVar("R_co", covariant=True)


class Task(Generic[R_co]):
    """A task that was accepted, so is durable, for code that awaits."""

    __slots__ = ("_client", "_id", "duplicate", "handler", "spooled")

    def __init__(
        self,
        client: "AsyncClient",
        task_id: bytes,
        handler: str,
        *,
        spooled: bool = False,
        duplicate: bool = False,
    ) -> None:
        self._client = client
        self._id = task_id
        self.handler = handler
        self.spooled = spooled
        """Whether it was durable in the sidecar's spool only, when the submit returned."""
        self.duplicate = duplicate
        """Whether it was there already, from an earlier submit under the same id or key."""

    @property
    def id(self) -> str:
        """The task's id."""
        return to_text(self._id)

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109
        """Wait until the task has ended and return what its handler returned, as JSON carries it.

        Raises:
            TaskFailed: It ended without success.
            TimeoutError: It has not ended within ``timeout`` seconds; it goes on.
        """
        return cast(R_co, await self._client.wait(self._id, timeout=timeout))

    wait = result

    async def status(self) -> TaskStatus:
        """Return what is known of the task now."""
        return await self._client.status(self._id)

    async def cancel(self, reason: str = "") -> TaskStatus:
        """Cancel the task; see ``AsyncClient.cancel``."""
        return await self._client.cancel(self._id, reason)

    def __repr__(self) -> str:
        return f"<Task {self.id} of {self.handler}>"


class BlockingTask(Generic[R_co]):
    """A task that was accepted, so is durable, for code that blocks."""

    __slots__ = ("_client", "_id", "duplicate", "handler", "spooled")

    def __init__(
        self,
        client: "Client",
        task_id: bytes,
        handler: str,
        *,
        spooled: bool = False,
        duplicate: bool = False,
    ) -> None:
        self._client = client
        self._id = task_id
        self.handler = handler
        self.spooled = spooled
        """Whether it was durable in the sidecar's spool only, when the submit returned."""
        self.duplicate = duplicate
        """Whether it was there already, from an earlier submit under the same id or key."""

    @property
    def id(self) -> str:
        """The task's id."""
        return to_text(self._id)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the task has ended and return what its handler returned, as JSON carries it.

        Raises:
            TaskFailed: It ended without success.
            TimeoutError: It has not ended within ``timeout`` seconds; it goes on.
        """
        return cast(R_co, self._client.wait(self._id, timeout=timeout))

    wait = result

    def status(self) -> TaskStatus:
        """Return what is known of the task now."""
        return self._client.status(self._id)

    def cancel(self, reason: str = "") -> TaskStatus:
        """Cancel the task; see ``AsyncClient.cancel``."""
        return self._client.cancel(self._id, reason)

    def __repr__(self) -> str:
        return f"<BlockingTask {self.id} of {self.handler}>"
