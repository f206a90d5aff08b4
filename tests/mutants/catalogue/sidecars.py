"""Bugs in the sidecar and the SDK: who is charged, whose slot it is, how they stop."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_HOLDINGS = "sidecar/core/test_holdings.py::"
_SERVICE = "sidecar/sdk/test_service.py::"
_SUPERVISED = "sidecar/core/test_supervised.py::"

MUTANTS = (
    Mutant(
        "unbegun-charged",
        "When a service dies, tasks that it had not begun are charged with the crash.",
        Promise.ISOLATION,
        [
            Edit(
                "sidecar.core.holdings",
                "unused += [Outcome(*key, OutcomeKind.RETURNED, 0, None) for key in lane.waiting]",
                "unused += [Outcome(*key, OutcomeKind.LOST, 0, None) for key in lane.waiting]",
            )
        ],
        a_test(
            f"{_HOLDINGS}"
            "test_first_unfinished_tasks_up_to_the_slots_are_lost_and_the_others_returned"
        ),
    ),
    Mutant(
        "begun-not-charged",
        "When a service dies, what it was running is given back as if it had not begun.",
        Promise.ISOLATION,
        [
            Edit(
                "sidecar.core.endings",
                "outcomes.append(Outcome(*key, OutcomeKind.LOST, run_us, _CRASH))",
                "outcomes.append(Outcome(*key, OutcomeKind.RETURNED, 0, None))",
            )
        ],
        a_test(f"{_HOLDINGS}test_tasks_that_wait_here_stay_for_the_other_connections"),
    ),
    Mutant(
        "slot-free-when-revoked",
        "The slot of a revoked attempt counts as free while the attempt still runs.",
        Promise.ISOLATION,
        [
            Edit(
                "sidecar.core.lane",
                "self.begun[key] = Stamp(stamp.since_ms, stop_by_ms, Standing.GONE)",
                "del self.begun[key]",
            ),
            Edit(
                "sidecar.core.holdings",
                "self.due_ms = min(self.due_ms, lane.begun[key].due_ms)",
                "self.due_ms = min([self.due_ms, *(s.due_ms for s in lane.begun.values())])",
            ),
            Edit(
                "sidecar.core.holdings",
                "                del lane.waiting[key]\n            elif stamp[2]:",
                "                lane.waiting.pop(key, None)\n            elif stamp[2]:",
            ),
        ],
        a_test(f"{_HOLDINGS}test_silent_attempt_is_reported_after_the_grace_and_keeps_its_slot"),
    ),
    Mutant(
        "outcome-of-an-ended-lease-passed-on",
        "What a service tells of an attempt whose lease has ended is passed on.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.holdings",
                "                if stamp[2] is Standing.GONE:\n",
                "                if False:\n",
            )
        ],
        a_test(f"{_HOLDINGS}test_next_lease_of_a_task_lives_beside_its_revoked_attempt"),
    ),
    Mutant(
        "silent-timeout-waited-for",
        "An attempt that does not answer at its timeout is waited for without end.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.holdings",
                "lane.revoke(key, Standing.TIMED_OUT, now_ms + self._cancel_grace_ms)",
                "lane.revoke(key, Standing.TIMED_OUT, NEVER_MS)",
            )
        ],
        a_test(f"{_HOLDINGS}test_silent_attempt_is_reported_after_the_grace_and_keeps_its_slot"),
    ),
    Mutant(
        "begun-while-its-lease-ended-forgotten",
        "What begins in a supervised process while its lease ends is let go on for ever.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.holdings",
                "if lane.killable and lane.first_waiting == key:",
                "if False:",
            )
        ],
        a_test(
            f"{_SUPERVISED}test_attempt_that_begins_while_its_lease_ends_is_ended_before_the_next_may_begin"
        ),
    ),
    Mutant(
        "grant-kept-in-the-drain",
        "A grant that crosses the order to stop is kept, and leaves with the process.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.sidecar",
                "        if self._takes_nothing:\n"
                "            self._end(self._holdings.give_back())\n\n",
                "        if False:\n            self._end(self._holdings.give_back())\n\n",
            )
        ],
        a_test(
            "sidecar/core/test_drain.py::test_grant_that_crossed_the_order_to_stop_is_given_back"
        ),
    ),
    Mutant(
        "leaves-before-the-record",
        "A sidecar that stops does not wait until its outcomes are recorded.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.drain",
                "if self.stage is Stage.RECORDING and (not unrecorded or now_ms >= self.due_ms):",
                "if self.stage is Stage.RECORDING:",
            )
        ],
        a_test("sidecar/core/test_drain.py::test_end_waits_for_the_record_but_not_for_ever"),
    ),
    Mutant(
        "submissions-unbounded",
        "One connection may have any number of bytes waiting in the sidecar.",
        Promise.BOUNDED,
        [
            Edit(
                "sidecar.core.submissions",
                "if self._bytes.get(connection, 0) + size > terms.submit_bytes_per_connection_max:",
                "if False:",
            )
        ],
        a_test(
            "sidecar/core/test_submissions.py::"
            "test_connection_may_not_have_more_waiting_than_its_share"
        ),
    ),
    Mutant(
        "only-the-leader-killed",
        "Of a service that must end only the first process is killed, not what it has started.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.supervise.child",
                "os.killpg(self.pid, number)",
                "os.kill(self.pid, number)",
            )
        ],
        a_test("sidecar/supervise/test_child.py::test_kill_ends_the_group"),
    ),
    Mutant(
        "slot-free-before-its-outcome",
        "The SDK uses a slot again before the outcome of its last attempt has reached the kernel.",
        Promise.ISOLATION,
        [
            Edit(
                "sidecar.sdk.runner",
                "            self.unreleased += 1\n        else:",
                "            self.free += 1\n            self.begin()\n        else:",
            )
        ],
        a_test(f"{_SERVICE}test_outcome_reaches_the_sidecar_before_its_slot_is_used_again"),
    ),
    Mutant(
        "ghosts-have-no-slots",
        "Attempts of a connection that is gone give up their slots before they have ended.",
        Promise.ISOLATION,
        [
            Edit(
                "sidecar.sdk.runner",
                "            self.ghosts.add(attempt)\n",
                "            self.free += 1\n",
            ),
            Edit(
                "sidecar.sdk.runner",
                "            self.ghosts.discard(attempt)\n            self.free += 1\n",
                "            self.ghosts.discard(attempt)\n",
            ),
        ],
        a_test(f"{_SERVICE}test_attempts_of_a_lost_connection_keep_their_slots_until_they_end"),
    ),
    Mutant(
        "revoked-result-taken",
        "What a handler returns after it was told to stop is told as its success.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.sdk.runner",
                "        if context.reason is not None:\n            ending",
                "        if False:\n            ending",
            )
        ],
        a_test(f"{_SERVICE}test_revoked_attempt_that_swallows_the_cancellation_is_no_success"),
    ),
)
