"""The SDK's types, as mypy shows them to its users."""

import re
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_PROMISED = re.compile(r"# error: ([a-z-]+)$")
_FOUND = re.compile(r":(\d+): error: .*\[([a-z-]+)\]$")


def mypy(program: Path, cache: Path) -> str:
    config = str(ROOT / "pyproject.toml")
    arguments = ["--config-file", config, "--cache-dir", str(cache), str(program)]
    out, err, _ = api.run([*arguments, "--no-error-summary", "--hide-error-context"])
    assert not err, err
    return out


def test_right_use_of_handlers_and_clients_has_the_right_types(tmp_path: Path) -> None:
    assert mypy(HERE / "must_pass.py", tmp_path) == ""


def test_every_wrong_use_is_refused_and_nothing_else(tmp_path: Path) -> None:
    text = (HERE / "must_fail.txt").read_text()  # No .py: checks of all tests would find it.
    program = tmp_path / "must_fail.py"
    program.write_text(text)
    promised = {
        (number, match[1])
        for number, line in enumerate(text.splitlines(), 1)
        if (match := _PROMISED.search(line))
    }

    lines = mypy(program, tmp_path).splitlines()
    found = {(int(m[1]), m[2]) for line in lines if (m := _FOUND.search(line))}

    assert found == promised, "\n".join(lines)
    assert len(promised) > 10
