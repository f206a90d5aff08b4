"""Bugs in what follows a lost connection, a restart, or a lost message."""

from tests.mutants.instrument import a_test
from tests.mutants.mutant import Edit, Mutant, Promise

_GREETING = "coordinator/core/test_greeting.py::"
_LINK = "sidecar/core/test_link.py::"
_OUTCOMES = "sidecar/core/test_outcomes.py::"

MUTANTS = (
    Mutant(
        "lost-grant-not-given-back",
        "Leases that a resuming sidecar does not name stay its own: their tasks run nowhere.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "coordinator.core.greeting",
                "        for task in lost_on_the_way:\n",
                "        for task in lost_on_the_way[:0]:\n",
            )
        ],
        a_test(f"{_GREETING}TestResume::test_makes_what_was_lost_on_the_way_ready_again_at_once"),
    ),
    Mutant(
        "held-leases-not-reconciled",
        "WELCOME does not tell a sidecar which of the leases it names are not its own any more.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.greeting",
                "                lost.append(lease)\n",
                "                pass\n",
            )
        ],
        a_test(f"{_GREETING}TestResume::test_names_what_is_held_without_a_lease"),
    ),
    Mutant(
        "lost-leases-kept",
        "A sidecar goes on with the leases that WELCOME calls lost.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                "self._end_leases(now_ms, message.lost, _LEASE_LOST)",
                "pass",
            )
        ],
        a_test(f"{_LINK}test_resumed_session_goes_on_with_what_it_held"),
    ),
    Mutant(
        "new-session-keeps-leases",
        "A sidecar whose session is not resumed goes on with what it held in the old one.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.sidecar",
                'self._void(now_ms, "the coordinator does not know them")',
                "pass",
            )
        ],
        a_test(f"{_LINK}test_session_that_is_not_resumed_voids_what_was_held"),
    ),
    Mutant(
        "overtaken-hello-taken",
        "A HELLO that comes late from an old connection is taken for the present one.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "coordinator.core.greeting",
                "if session is not None and hello.session < session.used:",
                "if False:",
            )
        ],
        a_test(f"{_GREETING}TestResume::test_by_a_hello_that_was_overtaken_changes_nothing"),
    ),
    Mutant(
        "grant-gap-ignored",
        "A sidecar does not notice that a grant between two others is missing.",
        Promise.AT_LEAST_ONCE,
        [Edit("sidecar.core.link", "if message.number > self._grant_number + 1:", "if False:")],
        a_test(f"{_LINK}test_gap_in_grants_makes_it_resume"),
    ),
    Mutant(
        "last-grant-lost-unnoticed",
        "A sidecar does not notice from BEAT that the last grant never came.",
        Promise.AT_LEAST_ONCE,
        [Edit("sidecar.core.link", "if message.grant_number > self._grant_number:", "if False:")],
        a_test(f"{_LINK}test_beat_that_names_an_unseen_grant_makes_it_resume"),
    ),
    Mutant(
        "grant-taken-twice",
        "A grant that comes twice is handed over twice.",
        Promise.NEVER_TWICE,
        [Edit("sidecar.core.link", "if message.number <= self._grant_number:", "if False:")],
        a_test(f"{_LINK}test_grant_that_arrives_twice_is_taken_once"),
    ),
    Mutant(
        "grant-before-welcome-taken",
        "A grant of the old session is taken between HELLO and WELCOME.",
        Promise.NEVER_TWICE,
        [
            Edit(
                "sidecar.core.link",
                "        if not self.open or message.session != self.session:\n"
                "            return False\n",
                "",
            )
        ],
        a_test(f"{_LINK}test_grant_between_hello_and_welcome_is_ignored"),
    ),
    Mutant(
        "undelivered-grant-kept",
        "Leases whose grant could not be handed over stay with the sidecar that never got it.",
        Promise.PROMPT,
        [
            Edit(
                "coordinator.core.shard",
                "                    self._settlement.give_back(now, task)\n",
                "                    pass\n",
            )
        ],
        a_test(
            "coordinator/core/test_granting.py::TestGrant::"
            "test_that_cannot_be_handed_over_is_taken_back_uncharged"
        ),
    ),
    Mutant(
        "outcomes-dropped-on-reconnect",
        "A new session drops the outcomes that were on their way in the old one.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.outcomes",
                "        self._unsent = list(self._in_flight)\n",
                "        self._in_flight.clear()\n        self._unsent = []\n",
            )
        ],
        a_test(f"{_OUTCOMES}test_outcome_is_sent_again_under_its_number_until_recorded"),
    ),
    Mutant(
        "outcomes-not-sent-again",
        "A new session keeps the outcomes that were on their way, and never sends them again.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.outcomes",
                "        self._unsent = list(self._in_flight)\n",
                "        self._unsent = []\n",
            )
        ],
        a_test(f"{_OUTCOMES}test_outcome_is_sent_again_under_its_number_until_recorded"),
    ),
    Mutant(
        "outcome-forgotten-when-sent",
        "A sidecar forgets an outcome when it sends it, and does not wait for RECORDED.",
        Promise.AT_LEAST_ONCE,
        [
            Edit(
                "sidecar.core.outcomes",
                "            messages.append(Outcomes(number, batch))\n",
                "            messages.append(Outcomes(number, batch))\n"
                "            del self._in_flight[number]\n",
            )
        ],
        a_test(f"{_OUTCOMES}test_leases_with_unrecorded_outcomes_are_still_held"),
    ),
    Mutant(
        "submissions-not-sent-again",
        "Submissions without a verdict are not sent again in a new session.",
        Promise.SUBMITTING,
        [
            Edit(
                "sidecar.core.submissions",
                "        for number in self._waiting:\n            self._unsent_like(number)",
                "        for number in ():\n            self._unsent_like(number)",
            )
        ],
        a_test(
            "sidecar/core/test_submissions.py::"
            "test_unanswered_batches_are_sent_again_in_every_session_under_their_numbers"
        ),
    ),
    Mutant(
        "demand-counted-twice",
        "After a WELCOME the sidecar goes on from its old totals; the coordinator starts at 0.",
        Promise.BOUNDED,
        [Edit("sidecar.core.sidecar", "self._asked.restart()", "pass")],
        a_test("sidecar/core/test_demand.py::test_totals_begin_again_with_every_welcome"),
    ),
    Mutant(
        "demand-kept-over-the-welcome",
        "The coordinator still counts the grants of before a WELCOME against the new totals.",
        Promise.PROMPT,
        [Edit("coordinator.core.sessions", "        self.granted.clear()\n", "")],
        a_test(f"{_GREETING}TestResume::test_has_a_number_of_its_own_and_counts_anew"),
    ),
)
