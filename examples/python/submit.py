"""Submit many tasks with one request, from Python's standard library alone.

    seq 100 | python examples/python/submit.py files.checksum

Each line of stdin is the payload of a task. The request has a line of JSON for each, and so has the
answer, in the same order: the task with its id, or why this one was not taken. Programs that can
install Pillion have its SDK instead: ``from sidecar import Client``.
"""

import http.client
import json
import os
import socket
import sys


class Sidecar(http.client.HTTPConnection):
    """HTTP over the sidecar's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect to the path in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def main(handler: str) -> int:
    """Submit a task for each line of stdin; return the exit code."""
    tasks = [
        {"handler": handler, "payload": line.rstrip("\n"), "content_type": "text/plain"}
        for line in sys.stdin
    ]
    sidecar = Sidecar(os.environ["PILLION_SIDECAR_SOCKET"])
    sidecar.request("POST", "/v1/tasks", "\n".join(map(json.dumps, tasks)))
    exit_code = 0
    for answer in map(json.loads, sidecar.getresponse()):
        if "id" in answer:
            print(answer["id"])
        else:
            print(f"line {answer.get('line', 1)}: {answer['detail']}", file=sys.stderr)
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
