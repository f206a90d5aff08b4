"""Split what is to be sent into messages that stay well under the frame limit.

Sizes are estimates from above, cheap to compute: exact ones would cost an encoding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from protocol.limits import BATCH_BYTES_MAX, BATCH_TASKS_MAX
from protocol.messages import Batch, Failure, GrantedTask, Group, Outcome, Reply, Update, Verdict

T = TypeVar("T")

_UTF8_BYTES_PER_CHAR = 4


def parcels(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield ``items`` in order, in lists that each fit one message."""
    parcel: list[T] = []
    left = BATCH_BYTES_MAX
    for item in items:
        size = size_of(item)
        if parcel and (size > left or len(parcel) == BATCH_TASKS_MAX):
            yield parcel
            parcel, left = [], BATCH_BYTES_MAX
        parcel.append(item)
        left -= size
    if parcel:
        yield parcel


def task_groups(groups: list[Group]) -> Iterator[list[Group]]:
    """Yield groups of tasks in lists that each fit one message, cutting groups where needed."""
    if sum(_group_bytes(g.tasks) for g in groups) <= BATCH_BYTES_MAX:
        yield groups
        return
    cut = [Group(g.handler, part) for g in groups for part in parcels(g.tasks, task_bytes)]
    yield from parcels(cut, lambda group: _group_bytes(group.tasks))


def _group_bytes(tasks: list[GrantedTask]) -> int:
    return sum([task_bytes(task) for task in tasks])


def task_bytes(task: GrantedTask) -> int:
    """Return about how many bytes a leased task takes on the wire."""
    return 256 + len(task[9]) + (0 if task[10] is None else extras_bytes(task[10]))


def extras_bytes(extras: dict[str, Any]) -> int:
    """Return about how many bytes a task's extras take on the wire."""
    size = 0
    for name, value in extras.items():
        size += 16 + _UTF8_BYTES_PER_CHAR * len(name)
        if type(value) is str:
            size += _UTF8_BYTES_PER_CHAR * len(value)
        elif type(value) is bytes:
            size += len(value)
        elif type(value) is dict:
            size += extras_bytes(value)
    return size


def update_bytes(update: Update) -> int:
    """Return about how many bytes the progress of an attempt takes on the wire."""
    checkpoint = 0 if update.checkpoint is None else len(update.checkpoint)
    return 64 + checkpoint + len(update.note) * _UTF8_BYTES_PER_CHAR


def outcome_bytes(outcome: Outcome) -> int:
    """Return about how many bytes an outcome takes on the wire."""
    value = outcome[4]
    if value is None:
        return 48
    if isinstance(value, Failure):
        text = len(value.error_type) + len(value.message) + len(value.detail)
        return 96 + text * _UTF8_BYTES_PER_CHAR
    return 256 + len(value.body)


def batch_bytes(batch: Batch) -> int:
    """Return about how many bytes a submitted batch takes on the wire."""
    return 24 + len(batch.tasks)


def verdict_bytes(verdict: Verdict) -> int:
    """Return about how many bytes a verdict takes on the wire."""
    texts = len(verdict.detail) + sum([64 + len(r.detail) for r in verdict.rejections])
    return 64 + texts * _UTF8_BYTES_PER_CHAR + 5 * len(verdict.duplicates)


def reply_bytes(reply: Reply) -> int:
    """Return about how many bytes a reply takes on the wire."""
    status = reply.status
    if status is None:
        return 64
    texts = 512 + len(status.error) + len(status.note)
    texts += sum([320 + len(a.message) + len(a.detail) for a in status.history])
    body = 0 if status.result is None else len(status.result.body)
    body += 0 if status.checkpoint is None else len(status.checkpoint)
    return body + texts * _UTF8_BYTES_PER_CHAR
