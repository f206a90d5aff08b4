"""A copy of the tree in which one run takes place.

An instrument is run without a bug and, minutes later, with it. If somebody edits the tree in
between, it may fail for what they did, and that would look like a bug that was caught.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")


@contextmanager
def copy() -> Iterator[Path]:
    """Give the folder of a copy as it is now; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pillion-frozen-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
        yield tree
