"""How the span of an attempt relates to the trace that its task was submitted in.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass

AUTO, CHILD, LINK = "auto", "child", "link"
RELATIONS = (AUTO, CHILD, LINK)
CHILD_MS_MAX = 30_000
"""Later than that, whoever decides at the end of a trace whether to keep it has decided."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans go, and what they are to the submitter's trace."""

    endpoint: str
    relation: str
    """One of ``RELATIONS``."""


def is_child(relation: str, submitted_ms: int, now_ms: int) -> bool:
    """Tell whether an attempt that is handed over now continues the submitter's trace.

    Otherwise it has a trace of its own, with a link to the submitter's. Each attempt counts by
    itself: one that is tried again much later would come too late for the trace of the first.
    """
    if relation == AUTO:
        return now_ms - submitted_ms <= CHILD_MS_MAX
    return relation == CHILD
