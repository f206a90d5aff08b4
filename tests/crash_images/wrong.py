"""What judges of images share: how they say what is wrong, and which commit an image shows."""

from collections.abc import Sequence

from tests.crash_images.recording import Expected, Pairs

KEYS_SHOWN = 5


class Wrong(Exception):
    """Raised when an image breaks a promise."""


def commit_of(pairs: Pairs, expected: Expected, states: Sequence[Pairs]) -> int:
    """Return the commit after which there was exactly this content.

    Raises:
        Wrong: There is none between the last that was done and the last that was begun.
    """
    for commit in range(expected.begun, expected.done - 1, -1):
        if states[commit] == pairs:
            return commit
    right = states[expected.done]
    lost = [key.hex() for key in right if key not in pairs]
    added = [key.hex() for key in pairs if key not in right]
    other = [key.hex() for key in right if key in pairs and pairs[key] != right[key]]
    raise Wrong(
        f"its content is neither that of commit {expected.done} nor of {expected.begun}; against "
        f"the first, missing: {lost[:KEYS_SHOWN]} ({len(lost)}), more: {added[:KEYS_SHOWN]} "
        f"({len(added)}), other values: {other[:KEYS_SHOWN]} ({len(other)})"
    )
