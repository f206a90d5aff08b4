"""Judge a story that has been told, and show the figures."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from examples.demo.checks import attempts, fates, files
from examples.demo.story import Story

SHOWN_MAX = 5
"""Problems of one kind that are shown."""
Check = tuple[str, Callable[[], list[str]]]


async def judge(story: Story) -> dict[str, list[str]]:
    """Return, by promise, what breaks it."""
    found = {}
    for promise, check in _checks(story):
        # Off the loop, one by one: Ctrl-C need not wait for all of them.
        found[promise] = await asyncio.to_thread(check)
    return found


def _checks(story: Story) -> Iterator[Check]:
    cases, evidence = story.cases, story.evidence.attempts
    yield "every task was accepted", partial(fates.not_accepted, cases)
    yield "every accepted task has ended", partial(fates.lost, cases)
    yield "each ended as it should", partial(fates.other_end, cases)
    yield (
        "the coordinator's history is what the handlers did",
        partial(fates.other_history, cases, evidence),
    )
    yield "no task ran twice at once", partial(attempts.twice_at_once, evidence)
    yield "no attempt is left over", partial(attempts.without_end, evidence)
    yield "tokens only grow", partial(attempts.old_token, evidence)
    yield "none began before it was due", partial(attempts.too_early, cases, evidence)
    yield (
        "the kills led to redeliveries",
        lambda: [] if any(map(fates.redelivered, cases)) else ["nothing was redelivered"],
    )
    for handler in files.CHECKS:
        yield (
            f"the files of {handler} are right",
            partial(files.wrong_files, story.folder, cases, handler),
        )


def show(story: Story, found: dict[str, list[str]]) -> None:
    """Print the figures, and what is wrong."""
    rows = list(_figures(story, found))
    print()
    for name, count, about in rows:
        print(f"{name:>18}  {count:>5}  {about}".rstrip())
    print()
    for promise, problems in found.items():
        print(f"  {'no' if problems else 'ok'}  {promise}")
        for problem in problems[:SHOWN_MAX]:
            print(f"        {problem}")
        if len(problems) > SHOWN_MAX:
            print(f"        and {len(problems) - SHOWN_MAX} more")
    print()


def _figures(story: Story, found: dict[str, list[str]]) -> Iterator[tuple[str, int | str, str]]:
    cases = story.cases
    statuses = [case.status for case in cases if case.status is not None]
    states = Counter(status.state for status in statuses)
    reasons = Counter(status.error for status in statuses if status.state == "dead")
    used_up = sum(count for reason, count in reasons.items() if "used up" in reason)
    evidence = story.evidence
    yield "submitted", sum(bool(case.id) for case in cases), "accepted tasks, each on disk first"
    yield "succeeded", states["succeeded"], ""
    yield "retried", evidence.count("retry") - used_up, "attempts failed and were tried again"
    yield "deferred", evidence.count("defer"), 'attempts said "not now", at no charge'
    yield "dead", states["dead"], ""
    for reason, count in reasons.most_common():
        yield "", count, reason
    yield "expired", states["expired"], "nobody serves their handler"
    yield "redelivered", sum(map(fates.redelivered, cases)), "leases that the kills ended"
    yield "ran twice at once", len(found["no task ran twice at once"]), ""
    yield "lost", len(found["every accepted task has ended"]), ""
