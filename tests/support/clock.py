"""A clock that moves only when a test says so."""


class ManualClock:
    """Milliseconds since some moment; callable, as the code under test expects a clock to be."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> int:
        """Move forward and return the new time."""
        assert ms >= 0, "a clock that goes back is set with jump()"
        self.now_ms += ms
        return self.now_ms

    def jump(self, now_ms: int) -> None:
        """Set the clock to any time, as a clock step does."""
        self.now_ms = now_ms
