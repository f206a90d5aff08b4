"""How long the oldest ready task of each handler has been due, also where it is in the store only.

What a gate holds is meant to wait, and does not count. Memory tells for queues that somebody asks
for. Of the others, those that nobody has asked for since the start, the first row is read: one
look at the index each, however long the queue.
"""

from collections.abc import Sequence

from coordinator.core import layout
from coordinator.core.effects import GetMany, Now, Scan
from coordinator.core.handler import Handler
from coordinator.core.listing import rows_of
from coordinator.core.overview import oldest_ready_ms
from coordinator.core.ready_queue import ReadyQueue
from coordinator.http.access import Access
from protocol.messages import State

QUEUES_MAX = 256
"""Queues that are looked up in the store for one answer."""
LOOKED_AT = 16
"""Tasks of a queue's first row that are looked at: the first ones may have ended."""


async def oldest_of(access: Access, handlers: Sequence[Handler], now: Now) -> dict[int, int]:
    """Return how long, in milliseconds, by the number of the handler."""
    ages = {
        handler.number: age
        for handler in handlers
        if (age := oldest_ready_ms(handler, now)) is not None
    }
    queues = [
        queue
        for handler in handlers
        if handler.ready
        for queue in handler.open_queues
        if queue.count and not queue.live
    ][:QUEUES_MAX]
    if queues:
        for number, age in await _stored(access, queues, now):
            ages[number] = max(ages.get(number, 0), age)
    return ages


async def _stored(access: Access, queues: Sequence[ReadyQueue], now: Now) -> list[tuple[int, int]]:
    rows = await access.read([Scan(*rows_of(queue), 1) for queue in queues])
    heads = []
    for queue, pairs in zip(queues, rows, strict=True):
        for key, value in pairs:
            heads.append((queue.handler, _ids(key, value)))
    wanted = [layout.task_key(task_id) for _, ids in heads for task_id in ids]
    (records,) = await access.read([GetMany(wanted)])
    ages = []
    for number, ids in heads:
        for task_id in ids:
            record = records.get(layout.task_key(task_id))
            task = None if record is None else access.ledger.peek(task_id, record)
            if task is not None and task.state is State.READY:
                ages.append((number, max(0, now.wall_ms - task.due_ms)))
                break
    return ages


def _ids(key: bytes, value: bytes) -> list[bytes]:
    try:
        return layout.split_ids(key, value)[:LOOKED_AT]
    except layout.Damaged:
        return []
