"""The layering of the house: which way imports run, and what the pure cores may not know."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "coordinator", "sidecar")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LINES_MAX = 450

IMPURE = {
    *("asyncio", "concurrent", "logging", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile"),
    *("threading", "time", "uuid", "datetime", "structlog", "uvloop", "zmq", "lmdb", "msgpack"),
}
"""What a pure core may not import: I/O, clocks, randomness, threads."""

PROTOCOL_MAY_ALSO_IMPORT = {
    "protocol.ids": {"os", "time"},
    "protocol.codec": {"msgpack"},
    # The shells that both sides share: what they log, how their commands begin and end, and what
    # their doctors look at.
    "protocol.log": {"logging", "structlog", "threading"},
    "protocol.command_line": {"os", "pathlib", "click"},
    "protocol.findings": {"os", "pathlib", "time"},
}

RANKS = {
    "coordinator": {
        "errors": 0,
        "core": 1,
        "settings": 1,
        "log": 1,
        "store": 2,
        "transport": 2,
        "events": 2,
        "observation": 3,
        "operating": 3,
        "http": 4,
        "runtime": 5,
        "commands": 5,
        "cli_options": 6,
        "cli_completion": 7,
        "cli_live": 8,
        "cli_operating": 8,
        "cli_changing": 8,
        "cli_sidecars": 8,
        "cli": 9,
        "__main__": 10,
        "__init__": 11,
    },
    "sidecar": {
        "errors": 0,
        "core": 1,
        "log": 1,
        "transport": 2,
        "spool": 2,
        "gateway": 2,
        "supervise": 2,
        "tracing": 2,
        "sdk": 2,
        "http": 3,
        "invoke": 4,
        "settings": 5,
        "runtime": 6,
        "commands": 6,
        "cli_completion": 7,
        "cli_commands": 8,
        "cli": 9,
        "__main__": 10,
        "__init__": 11,
    },
}
"""Which part may know which: a part imports parts of a lower rank, and itself."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """Give the full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def by_name(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


@by_name([path for path in MODULES if "core" in path.parts])
def test_core_is_pure(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) - IMPURE | {"protocol", path.relative_to(ROOT).parts[0]}
    assert {top(name) for name in imports_of(path)} <= allowed


@by_name([path for path in MODULES if name_of(path).startswith("protocol")])
def test_protocol_does_no_io_and_knows_nobody(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) - IMPURE | {"protocol"}
    allowed |= PROTOCOL_MAY_ALSO_IMPORT.get(name_of(path), set())
    assert {top(name) for name in imports_of(path)} <= allowed


@by_name([path for path in MODULES if not name_of(path).startswith("protocol")])
def test_imports_run_one_way(path: Path) -> None:
    package, part = name_of(path).split(".")[:2]
    other = {"coordinator": "sidecar", "sidecar": "coordinator"}[package]
    ranks = RANKS[package]
    assert part in ranks, f"give {package}.{part} its place in RANKS"
    for name in imports_of(path):
        assert top(name) != other, f"{package} imports {name}"
        imported = name.split(".")[1] if name.startswith(f"{package}.") else None
        if imported in ranks and imported != part:
            assert ranks[imported] < ranks[part], f"{package}.{part} imports {name}"


def owner(module: str) -> str:
    """Return the package that a module belongs to; the SDK is one by itself.

    It runs in the processes of apps and shares nothing with the sidecar's own.
    """
    return "sidecar.sdk" if module.startswith("sidecar.sdk") else top(module)


def test_third_party_library_is_imported_in_one_module_per_package() -> None:
    known = sys.stdlib_module_names | set(PACKAGES)
    importers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in MODULES:
        module = name_of(path)
        for name in imports_of(path):
            if top(name) not in known:
                importers[owner(module), top(name)].add(module)
    crowded = {key: modules for key, modules in importers.items() if len(modules) > 1}
    crowded = {
        (package, library): modules
        for (package, library), modules in crowded.items()
        if not all(module.startswith(f"{package}.cli") for module in modules)
    }  # A command line is one thing, in however many files.
    assert not crowded


@by_name(MODULES)
def test_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= LINES_MAX, "look for the second responsibility"


def test_application_that_imports_the_sdk_loads_no_server_library() -> None:
    program = (
        "import sys, sidecar\n"
        "from sidecar import AsyncClient, Client, Defer, Fatal, Retry, Service, current\n"
        "loaded = {'zmq', 'lmdb', 'click', 'structlog', 'httptools'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
