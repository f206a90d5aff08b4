"""What a command says on stderr when it cannot do what it was asked: for people, or for programs.

Where JSON is asked for on stdout, the complaint is one JSON object in one line of stderr.
"""

import json
from collections.abc import Sequence

_FLAGS = ("-o", "--output")
_FORMS = ("json", "ndjson")


def asks_json(arguments: Sequence[str]) -> bool:
    """Tell whether the arguments of a command ask for JSON, also if they are not all right."""
    previous = ""
    for argument in arguments:
        if argument == "--":
            break
        flag, _, form = argument.partition("=")
        if argument == "--json" or (previous in _FLAGS and argument in _FORMS):
            return True
        if (flag == "--output" and form in _FORMS) or argument in [f"-o{x}" for x in _FORMS]:
            return True
        previous = argument
    return False


def complaint(  # noqa: PLR0913 (one for each thing that it says)
    program: str, text: str, exit_code: int, *, code: str = "", hint: str = "", as_json: bool
) -> str:
    """Return what to write to stderr, with its line end.

    Args:
        program: Who complains.
        text: What is wrong.
        exit_code: With which the command ends.
        code: What is wrong, for programs; empty if there is no word for it.
        hint: What to do.
        as_json: Whether a program reads it.
    """
    if as_json:
        error = {"error": text, "code": code, "hint": hint, "exit_code": exit_code}
        return json.dumps(error) + "\n"
    whole = f"{text}; {hint}" if hint else text
    return "".join(f"{program}: {line}\n" for line in whole.splitlines())
