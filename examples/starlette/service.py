"""A web service whose tasks are requests like any other: Starlette, served by uvicorn.

    pillion-sidecar run --service accounts --push welcome -- python examples/starlette/service.py

Nothing here knows Pillion: the sidecar calls ``POST /tasks/accounts.welcome`` with the payload as
body, and the status that is answered is the outcome. Middleware and tests of the service work for
tasks as they do for everybody's requests.
"""

import asyncio
import os

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

mail_server = asyncio.Semaphore(2)
"""Stands for one that takes two mails at a time."""
sent: dict[str, str] = {}
"""Stands for a table: the address of each task that is done."""


async def welcome(request: Request) -> Response:
    """Send a mail, once for each task."""
    task_id = request.headers["task-id"]  # The same in every attempt.
    try:
        address = (await request.json())["email"]
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, 'expected {"email": ADDRESS}') from None  # Fatal: a dead letter.
    if task_id not in sent:  # Otherwise only the answer to an earlier attempt was lost.
        if mail_server.locked():
            # Not now: comes again, costs no attempt, and makes the sidecar send fewer at a time.
            raise HTTPException(429, headers={"Retry-After": "1"})
        async with mail_server:
            await send(address, attempt=int(request.headers["task-attempt"]))
        sent[task_id] = address
    return JSONResponse({"sent": address})  # Success; the body is the task's result.


async def send(address: str, *, attempt: int) -> None:
    """Stand for what takes a while, and fails now and then."""
    await asyncio.sleep(0.2)
    if address.endswith("@flaky.example") and attempt == 1:
        # An exception is a 500: the task comes again after its backoff.
        raise ConnectionError("the mail server hung up")


app = Starlette(routes=[Route("/tasks/accounts.welcome", welcome, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, uds=os.environ["PILLION_APP_SOCKET"], log_level="warning")
