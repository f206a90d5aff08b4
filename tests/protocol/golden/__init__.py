"""Golden bytes: what each version's messages look like on the wire, one folder per version."""

from pathlib import Path

from protocol import codec
from protocol.submission import encode_batch
from tests.protocol.examples import BATCHES, MESSAGES

FOLDER = Path(__file__).parent / "v1"


def encodings() -> dict[str, bytes]:
    """Return what the present code encodes for each golden file."""
    messages = {name: codec.encode(message) for name, message in MESSAGES.items()}
    return messages | {name: encode_batch(tasks) for name, tasks in BATCHES.items()}
