"""The smallest example: a service with one handler, and a task for it."""

import asyncio

from sidecar import Service

service = Service("hello")


@service.handler()
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    serving = asyncio.create_task(service.serve())
    task = await greet.submit(name="world")  # Returns when the task is durable.
    print(await task.result())
    service.stop()
    await serving


asyncio.run(main())
