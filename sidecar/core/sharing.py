"""Share tasks among the connections that serve their handler.

Idle slots come first, evenly; then what services take ahead of their slots, evenly.
"""

from protocol.messages import GrantedTask
from sidecar.core.lane import Lane


def share(tasks: list[GrantedTask], lanes: list[Lane]) -> list[tuple[Lane, list[GrantedTask]]]:
    """Return who gets which of ``tasks``, in order; what nobody has room for is left out."""
    if len(lanes) == 1:
        lane = lanes[0]
        room = lane.room
        if room <= 0:
            return []
        return [(lane, tasks if room >= len(tasks) else tasks[:room])]
    counts = [0] * len(lanes)
    left = _fill(counts, [lane.idle for lane in lanes], len(tasks))
    if left:
        _fill(counts, [lane.room - n for lane, n in zip(lanes, counts, strict=True)], left)
    shares = []
    start = 0
    for lane, count in zip(lanes, counts, strict=True):
        if count:
            shares.append((lane, tasks[start : start + count]))
            start += count
    return shares


def _fill(counts: list[int], caps: list[int], amount: int) -> int:
    """Add ``amount`` to ``counts`` as evenly as ``caps`` allow; return what did not fit."""
    # From the smallest cap up, so that what one cannot take is left to those after it; of few
    # tasks, each goes to one of those with the largest.
    order = sorted(range(len(caps)), key=caps.__getitem__)[-amount:]
    for done, i in enumerate(order):
        share = min(caps[i], -(-amount // (len(order) - done)))
        counts[i] += share
        amount -= share
    return amount
