"""Submitters in other languages, against real processes and the handler ``echo.say``."""

import json
import sys

from sidecar import Client
from tests.support.processes import Sidecar
from tests.support.programs import need, run


def test_java_submits_and_prints_the_status(echo: Sidecar) -> None:
    need("java", 17)
    command = ("java", "examples/java/Submit.java", "echo.say", "höre")

    status = json.loads(run(*command, socket=echo.socket_path).stdout)

    assert (status["state"], status["result"]) == ("succeeded", "höre")


def test_curl_submits_the_same_bytes_as_one_task(echo: Sidecar) -> None:
    need("curl", 7, 76)
    command = ("examples/bash/submit.sh", "echo.say")

    first, second, other = (
        json.loads(run(*command, stdin=text, socket=echo.socket_path).stdout)
        for text in ("same\n", "same\n", "other\n")
    )

    assert (first["state"], first["result"]) == ("succeeded", "same\n")
    assert (second["id"], second["deliveries"]) == (first["id"], 1)
    assert other["id"] != first["id"]


def test_python_submits_a_task_for_each_line(echo: Sidecar) -> None:
    command = (sys.executable, "examples/python/submit.py", "echo.say")

    ended = run(*command, stdin="".join(f"{n}\n" for n in range(5)), socket=echo.socket_path)

    ids = ended.stdout.split()
    with Client(str(echo.socket_path)) as client:
        assert [client.wait(x, timeout=20) for x in ids] == [0, 1, 2, 3, 4]


def test_python_tells_which_line_was_not_taken(echo: Sidecar) -> None:
    command = (sys.executable, "examples/python/submit.py", "echo.say")

    ended = run(*command, stdin=f"1\n{'x' * 1_100_000}\n3\n", socket=echo.socket_path, expect=1)

    assert len(ended.stdout.split()) == 2
    assert ended.stderr.startswith("line 2: ")
