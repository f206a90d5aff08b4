"""What the core is told once, when it is made: who it is, and the times and bounds it keeps.

The values come from ``sidecar.settings``; nothing here reads them from anywhere.
"""

from dataclasses import dataclass

from protocol import limits

NEVER_MS = 2**62
"""A due time that does not come."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this sidecar is."""

    sidecar: str
    """Name for people; not unique."""
    incarnation: bytes
    """16 random bytes of this process."""
    service: str
    """The service whose handlers may attach here."""
    software: str
    coordinator: str = ""
    """The coordinator's address, for people who ask."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Times and bounds of one sidecar process."""

    drain_ms: int = 25_000
    """How long running attempts may go on after the order to stop: below the usual 30 s."""
    stop_grace_ms: int = 2_000
    """How long an attempt revoked at the end of the drain has to say what it came to."""
    record_ms: int = 5_000
    """How long the end waits for outcomes to be recorded; then their leases run out."""
    end_ms: int = 3_500
    """How long stopping and recording may take together when the drain was used up: with it, and a
    second for what peers have to read, the end takes less than the usual 30 s."""
    cancel_grace_ms: int = 5_000
    """How long a timed-out attempt has to say so before the sidecar reports it."""
    attach_ms: int = 5_000
    submit_timeout_ms: int = 10_000
    """Without an answer for this long, a submission is told ``unavailable``."""
    spool_after_ms: int = 1_000
    """Without an answer for this long, a submission that may be spooled is."""
    spool_bytes_max: int = 1024 * limits.MIB
    spool_age_ms: int = limits.DAY_MS
    """A batch that was spooled longer ago is not replayed by itself."""
    spool_window_bytes: int = 8 * limits.MIB
    """Spooled batches kept in memory; the rest is read back when its turn comes."""
    journal_after_ms: int = 500
    """Without a session for this long, outcomes are kept in the spool as well."""
    journal_silent_ms: int = 1_000
    """With a session that records nothing for this long, likewise."""
    submit_bytes_max: int = 64 * limits.MIB
    submit_bytes_per_connection_max: int = 16 * limits.MIB
    submit_bytes_in_flight_max: int = 8 * limits.MIB
    """Unanswered submissions on their way: heartbeats must not queue behind more than this."""
    questions_max: int = limits.WAITERS_PER_SESSION_MAX
    attempts_told: bool = False
    """Whether ``Effects.ended`` tells the end of each attempt."""
