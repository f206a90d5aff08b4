"""Run the demo: ``python -m examples.demo``; exits with 0 only if everything holds."""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if importlib.util.find_spec("PIL") is None:
    sys.exit("The demo makes pictures with Pillow, which is not installed. Run it with: make demo")

from examples.demo import verdict
from examples.demo.scene import Scene, SceneFailed
from examples.demo.story import Story
from sidecar import PillionError

FOLDER_BYTES_MAX = 80
"""A Unix socket's path may have 107 bytes, with the socket's own name."""


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all files")
    parser.add_argument("--seed", type=int, default=7, help="decides pictures, delays, priorities")
    options = parser.parse_args()
    with _folder(keep=options.keep) as folder:
        try:
            return asyncio.run(_run(folder, options.seed))
        except KeyboardInterrupt:
            print("\nStopped by Ctrl-C; every process has ended.")
            return 128 + signal.SIGINT
        except asyncio.CancelledError:
            print("\nTold to stop; every process has ended.")
            return 128 + signal.SIGTERM


async def _run(folder: Path, seed: int) -> int:
    asked_to_stop = asyncio.current_task()
    assert asked_to_stop is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.cancel)
    began = time.monotonic()
    scene = Scene(folder)
    story = Story(folder, scene, seed)
    trouble: list[str] = []
    try:
        await story.tell()
        story.progress.say("stopping every process, then looking at every file and attempt")
        trouble += await scene.stop()
    except (SceneFailed, PillionError) as error:
        trouble.append(str(error))
    finally:
        await scene.stop_in_a_hurry()
    found = {"every process did its part": trouble} | await verdict.judge(story)
    verdict.show(story, found)
    broken = [promise for promise, problems in found.items() if problems]
    if broken:
        _show_logs(scene)
        print("With --keep the folder stays to be looked at.")
        print(f"The demo FAILED. Does not hold: {'; '.join(broken)}")
        return 1
    print(f"Everything holds after {time.monotonic() - began:.1f} s. ran twice at once: 0, lost: 0")
    return 0


def _show_logs(scene: Scene) -> None:
    for program in scene.programs:
        print(f"--- the end of {program.log.name}\n{program.tail()}")


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Make a private folder whose path is short enough for sockets; remove it at the end."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + len("/pillion-demo-12345678") > FOLDER_BYTES_MAX:
        parent = "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="pillion-demo-", dir=parent))
    try:
        yield folder
    finally:
        if keep:
            print(f"Everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
