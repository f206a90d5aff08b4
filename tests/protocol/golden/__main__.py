"""Write the golden bytes of the present protocol version; never change bytes that exist.

    python -m tests.protocol.golden            compare
    python -m tests.protocol.golden --write    add the files that are missing

Bytes that were once on a wire stay decodable: when an encoding changes, the version is raised and
a folder is added beside the old one.
"""

import sys

from tests.protocol.golden import FOLDER, encodings


def main(arguments: list[str]) -> int:
    """Compare or add; return the exit code: 1 when a file differs or is missing."""
    write = arguments == ["--write"]
    wrong = []
    for name, data in encodings().items():
        path = FOLDER / f"{name}.bin"
        if not path.exists() and write:
            path.write_bytes(data)
            print(f"{path.name}: added")  # noqa: T201 (a command)
        elif not path.exists():
            wrong.append(f"{path.name}: missing; --write adds it")
        elif path.read_bytes() != data:
            wrong.append(f"{path.name}: differs from what is encoded now; raise the version")
    for line in wrong:
        print(line, file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
