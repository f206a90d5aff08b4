"""The event loop of the processes and threads that the SDK starts itself.

The only importer of uvloop in the SDK.
"""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop event loop."""
    import uvloop  # noqa: PLC0415 (apps that bring their own loop need not load it)

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
