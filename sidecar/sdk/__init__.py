"""What a Python app or service imports: its names are re-exported by ``sidecar``."""

from sidecar.sdk.blocking import Client
from sidecar.sdk.client import AsyncClient
from sidecar.sdk.context import Cancelled, Context, current
from sidecar.sdk.control import Defer, Fatal, Retry
from sidecar.sdk.errors import (
    Busy,
    InvalidHandler,
    NoContext,
    PillionError,
    Refused,
    Rejected,
    TaskCancelled,
    TaskDead,
    TaskDropped,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    Unavailable,
)
from sidecar.sdk.handler import Handler, Submitter
from sidecar.sdk.new_task import NewTask, Options
from sidecar.sdk.service import Service
from sidecar.sdk.status import AttemptStatus, TaskStatus
from sidecar.sdk.task import BlockingTask, Task

__all__ = [
    "AsyncClient",
    "AttemptStatus",
    "BlockingTask",
    "Busy",
    "Cancelled",
    "Client",
    "Context",
    "Defer",
    "Fatal",
    "Handler",
    "InvalidHandler",
    "NewTask",
    "NoContext",
    "Options",
    "PillionError",
    "Refused",
    "Rejected",
    "Retry",
    "Service",
    "Submitter",
    "Task",
    "TaskCancelled",
    "TaskDead",
    "TaskDropped",
    "TaskExpired",
    "TaskFailed",
    "TaskNotFound",
    "TaskStatus",
    "Unavailable",
    "current",
]
