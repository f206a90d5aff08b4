"""What type checkers must accept, with the types they must see."""

from typing import Any, assert_type

from sidecar import (
    AsyncClient,
    BlockingTask,
    Client,
    NewTask,
    PillionError,
    Service,
    Task,
    TaskStatus,
)

service = Service("email")


@service.handler(timeout="30s", attempts=5)
async def send(to: str, *, copies: int = 1) -> list[str]:
    """Send asynchronously."""
    return [to] * copies


@service.handler("count")
def count(words: str) -> int:
    """Count in a thread."""
    return len(words)


@service.handler()
def thumbnail(image: bytes) -> bytes:
    """Take and give bytes."""
    return image


async def use_handlers() -> None:
    """Plain calls, submits and results."""
    assert_type(await send("a", copies=2), list[str])
    assert_type(count("a"), int)
    task = await send.submit("a", copies=2)
    assert_type(task, Task[list[str]])
    assert_type(await task.result(timeout=5), list[str])
    assert_type(await task.status(), TaskStatus)
    later = await count.options(delay="10m", priority="high").submit("a")
    assert_type(await later.result(), int)
    assert_type(send.task("a"), NewTask)
    assert_type(thumbnail.submit_sync(b""), BlockingTask[bytes])
    assert_type(count.submit_sync("a").result(), int)


async def use_clients(client: AsyncClient, blocking: Client) -> None:
    """Submits by name."""
    assert_type(await client.submit("email.send", {"to": "a"}, delay=5), Task[Any])
    verdicts = await client.submit_many([send.task("a"), NewTask(handler="x.y")])
    assert_type(verdicts, list[Task[Any] | PillionError])
    assert_type(blocking.submit("email.send", b""), BlockingTask[Any])
    wide: Task[object] = await send.submit("a")
    assert wide
