"""Bugs in how tasks are cancelled, and in what attempts tell while they go on."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_CANCELLING = "coordinator/core/test_cancelling.py::"
_PROGRESSING = "coordinator/core/test_progressing.py::"
_AT_SIDECAR = "sidecar/core/test_cancelling.py::"
_KEPT = "sidecar/core/test_progress.py::"

MUTANTS = (
    Mutant(
        "cancelled-not-stored",
        "That a leased task was cancelled is forgotten when the coordinator is killed.",
        Promise.DURABLE,
        [
            Edit(
                "coordinator.core.cancelling",
                "        self._ledger.save_leased(task)\n",
                "",
            )
        ],
        a_test(f"{_CANCELLING}TestLeased::test_lease_is_the_same_after_a_restart"),
    ),
    Mutant(
        "cancelled-runs-again",
        "A task that was cancelled while its attempt ran is tried again when it is given back.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.outcomes",
                '        self._ledger.count("returned")\n        if task.cancelling:\n',
                '        self._ledger.count("returned")\n        if False:\n',
            )
        ],
        a_test(f"{_CANCELLING}TestLeased::test_lease_given_back_ends_it_as_cancelled"),
    ),
    Mutant(
        "cancelled-success-lost",
        "A success is not taken if its task was cancelled meanwhile.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.outcomes",
                "        if kind is OutcomeKind.SUCCESS:\n            task.attempts += 1\n",
                "        if kind is OutcomeKind.SUCCESS and not task.cancelling:\n"
                "            task.attempts += 1\n",
            )
        ],
        a_test(f"{_CANCELLING}TestLeased::test_success_stays_a_success"),
    ),
    Mutant(
        "cancelled-once-only",
        "A sidecar that missed the order to stop an attempt is not told again.",
        Promise.PROMPT,
        [Edit("coordinator.core.greeting", "        self._cancelling.remind(session)\n", "")],
        a_test(f"{_CANCELLING}TestLeased::test_sidecar_that_resumes_is_told_again"),
    ),
    Mutant(
        "leased-in-the-record",
        "The record of a task says that it is leased, and a restart takes the lease for settled.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.ledger",
                "records.encode_before_lease(task)",
                "records.encode(task)",
            )
        ],
        a_test(f"{_PROGRESSING}test_checkpoint_outlives_the_sidecar_and_the_coordinator"),
    ),
    Mutant(
        "progress-of-a-stranger",
        "Progress and checkpoints are taken from whoever names the token.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.progressing",
                " or task.session is not session:",
                ":",
            )
        ],
        a_test(f"{_PROGRESSING}test_only_the_holder_of_the_lease_is_heard"),
    ),
    Mutant(
        "returned-for-ever",
        "A task that no sidecar keeps goes round without end.",
        Promise.BOUNDED,
        [Edit("coordinator.core.outcomes", " > RETURNS_MAX:", " > 10**9:")],
        a_test(
            "coordinator/core/test_outcomes.py::TestReturned::test_kills_the_task_that_nobody_keeps"
        ),
    ),
    Mutant(
        "cancelled-lease-dropped",
        "The sidecar lets go of a cancelled lease while its attempt still runs.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                "        if lease.reason != _CANCELLED:\n",
                "        if True:\n",
            )
        ],
        a_test(f"{_AT_SIDECAR}test_lease_of_a_cancelled_attempt_is_held_until_it_has_stopped"),
    ),
    Mutant(
        "checkpoint-too-late",
        "A checkpoint waits for its second even when its attempt has ended.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.progress",
                "            if self._later.pop(key, None) is not None:\n"
                "                self._ready[key] = None\n",
                "",
            )
        ],
        a_test(f"{_KEPT}test_checkpoint_that_waits_goes_before_the_outcome_of_its_attempt"),
    ),
)
