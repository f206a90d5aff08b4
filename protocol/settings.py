"""Settings from one table: flags over environment over file over default, each with its origin.

Text in, values out. Reading the file and the environment, and building the frozen ``Settings`` of
a process from the values, is done by that process. Every name that nobody knows is an error: a
mistyped setting that is quietly ignored is found in production.

To add a setting: one row in the table of its process, one field in its ``Settings``.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, assert_never

from protocol import units

Value = str | int | bool | tuple[str, ...] | None

CONFIG_KEY = "config"
"""Names the file itself, as ``--config`` and ``<PREFIX>CONFIG``; the command reads it."""

_SHOWN_CHARS_MAX = 80
# Kubernetes adds these to each container when a Service has the name of the process.
_KUBERNETES = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)?)"
)


class Kind(Enum):
    """What a setting is, and so how its text is read."""

    TEXT = "text"
    PATH = "path"
    CHOICE = "choice"
    INTEGER = "integer"
    SIZE = "size"
    DURATION = "duration"
    FLAG = "flag"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of a table.

    ``default`` is a value, not a text: bytes for a size, milliseconds for a duration, None for
    what need not be set. ``low`` and ``high`` bound numbers, both included.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    low: int = 0
    high: int = 2**63 - 1
    choices: tuple[str, ...] = ()
    separator: str = ","
    """Between the items of a list in an environment variable."""
    item: str = "TEXT"
    """What an item of a list is called in help."""

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")

    def variable(self, prefix: str) -> str:
        """Return the name of the environment variable."""
        return prefix + self.name.upper()

    def expected(self) -> str:  # noqa: PLR0911 (one per kind)
        """Return the accepted values in words, for errors and for help."""
        match self.kind:
            case Kind.TEXT | Kind.PATH:
                return f"a {self.kind.value} that is not empty"
            case Kind.LIST:
                return "a list of texts that are not empty"
            case Kind.CHOICE:
                return "one of " + ", ".join(self.choices)
            case Kind.FLAG:
                return "true or false"
            case Kind.INTEGER:
                return f"an integer from {self.low} to {self.high}"
            case Kind.SIZE:
                low, high = units.format_size(self.low), units.format_size(self.high)
                return f"a size from {low} to {high}, such as 64MiB"
            case Kind.DURATION:
                low, high = (units.format_duration_ms(ms) for ms in (self.low, self.high))
                return f"a duration from {low} to {high}, such as 250ms, 30s or 1h30m"
            case _:
                assert_never(self.kind)

    def format(self, value: Value) -> str:
        """Return a value as a person would write it."""
        assert value is not None
        if self.kind is Kind.FLAG:
            return "true" if value else "false"
        if self.kind is Kind.DURATION and isinstance(value, int):
            return units.format_duration_ms(value)
        if self.kind is Kind.SIZE and isinstance(value, int):
            return units.format_size(value)
        if isinstance(value, tuple):
            return self.separator.join(value)
        return str(value)


class Resolved(NamedTuple):
    """A value and where it came from: ``flag --bind``, ``file x.toml``, ``default``."""

    value: Value
    origin: str


class SettingsError(Exception):
    """Raised when settings cannot be used; holds every problem, so that all are mended at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Values(Mapping[str, Resolved]):
    """What ``resolve`` found: each value with its origin, and typed access to the values."""

    def __init__(
        self, resolved: Mapping[str, Resolved], sections: Mapping[str, object] | None = None
    ) -> None:
        self._resolved = dict(resolved)
        self.sections = dict(sections or {})
        """Of the file, the sections asked for, as they stand there; who asked checks them."""

    def __getitem__(self, name: str) -> Resolved:
        return self._resolved[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resolved)

    def __len__(self) -> int:
        return len(self._resolved)

    def text(self, name: str) -> str:
        """Return a text, path or choice that has a value."""
        value = self._resolved[name].value
        assert isinstance(value, str), name
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a text or path that need not be set."""
        return None if self._resolved[name].value is None else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list."""
        value = self._resolved[name].value
        assert isinstance(value, tuple), name
        return value

    def number(self, name: str) -> int:
        """Return an integer, size (bytes) or duration (milliseconds)."""
        value = self._resolved[name].value
        assert type(value) is int, name
        return value

    def number_or_none(self, name: str) -> int | None:
        """Return a number that need not be set."""
        return None if self._resolved[name].value is None else self.number(name)

    def flag(self, name: str) -> bool:
        """Return a flag."""
        value = self._resolved[name].value
        assert type(value) is bool, name
        return value


def resolve(  # noqa: PLR0913 (three sources, and the names of two)
    table: Sequence[Setting],
    *,
    prefix: str,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file_text: str | None = None,
    file_name: str = "",
    sections: Sequence[str] = (),
) -> Values:
    """Return the value of every setting in the table.

    Args:
        table: The settings that exist.
        prefix: What the process's variables begin with: ``PILLION_COORDINATOR_``.
        flags: From the command line, by setting name; None means not given.
        environ: The whole environment. An empty variable counts as not set.
        file_text: The TOML file, or None when there is none.
        file_name: For origins and errors.
        sections: What the file may hold beside settings; returned as it stands there.

    Raises:
        SettingsError: A name is not known or a value is not accepted, in whichever source.
    """
    known = {setting.name: setting for setting in table}
    problems: list[str] = []
    document = _document(file_text, file_name, problems)
    apart = {name: document.pop(name) for name in sections if name in document}
    sources = [
        _from_flags(known, flags),
        _from_environment(known, prefix, environ, problems),
        _from_file(known, document, file_name, problems),
    ]
    resolved: dict[str, Resolved] = {}
    for name, setting in known.items():
        resolved[name] = Resolved(setting.default, "default")
        # From the weakest: a bad value is reported even where a stronger source hides it.
        for source in reversed(sources):
            if name in source:
                raw, origin = source[name]
                try:
                    resolved[name] = Resolved(parse(setting, raw), origin)
                except ValueError as error:
                    problems.append(f"{name} = {_shown(raw)} ({origin}): {error}")
    if problems:
        raise SettingsError(problems)
    return Values(resolved, apart)


_Source = dict[str, tuple[object, str]]


def _from_flags(known: Mapping[str, Setting], flags: Mapping[str, object]) -> _Source:
    assert not flags.keys() - known.keys(), "the command has a flag that the table lacks"
    return {
        name: (raw, f"flag {known[name].flag}")
        for name, raw in flags.items()
        if raw is not None and raw != ()
    }


def _from_environment(
    known: Mapping[str, Setting], prefix: str, environ: Mapping[str, str], problems: list[str]
) -> _Source:
    names = {setting.variable(prefix): name for name, setting in known.items()}
    found: _Source = {}
    for variable in sorted(v for v in environ if v.startswith(prefix)):
        key = variable.removeprefix(prefix)
        if variable in names:
            if environ[variable]:
                found[names[variable]] = (environ[variable], f"environment {variable}")
        elif key != CONFIG_KEY.upper() and not _KUBERNETES.fullmatch(key):
            problems.append(f"environment {variable}: no such setting{_near(variable, names)}")
    return found


def _document(text: str | None, name: str, problems: list[str]) -> dict[str, object]:
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"file {name}: not TOML: {error}")
        return {}


def _from_file(
    known: Mapping[str, Setting], document: Mapping[str, object], name: str, problems: list[str]
) -> _Source:
    origin = f"file {name}"
    problems.extend(
        f"{origin}: no setting is called {_shown(key)}{_near(key, known)}"
        for key in sorted(document.keys() - known.keys())
    )
    return {key: (raw, origin) for key, raw in document.items() if key in known}


def parse(setting: Setting, raw: object) -> Value:
    """Return the value that a text, or a typed value of the file, stands for.

    Raises:
        ValueError: The value is not accepted; says what is.
    """
    value = _read(setting, raw)
    if value is None:
        raise ValueError(f"expected {setting.expected()}")
    if type(value) is int and not setting.low <= value <= setting.high:
        raise ValueError(f"out of range; expected {setting.expected()}")
    return value


_FLAG_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _read(setting: Setting, raw: object) -> Value:  # noqa: PLR0911 (one per kind)
    match setting.kind, raw:
        case (Kind.LIST, str()):
            return _texts([part.strip() for part in raw.split(setting.separator)])
        case (Kind.LIST, list() | tuple()):
            return _texts(raw)
        case (Kind.FLAG, bool()):
            return bool(raw)
        case (_, bool()):
            return None
        case (Kind.INTEGER | Kind.SIZE, int()):
            return int(raw)
        case (Kind.FLAG, str()):
            return _FLAG_WORDS.get(raw.lower())
        case (Kind.TEXT | Kind.PATH, str()) if raw and "\0" not in raw:
            return raw
        case (Kind.CHOICE, str()) if raw in setting.choices:
            return raw
        case (Kind.INTEGER, str()) if re.fullmatch(r"-?[0-9]{1,19}", raw.strip()):
            return int(raw)
        case (Kind.SIZE, str()):
            return units.parse_size(raw)
        case (Kind.DURATION, str()):
            return units.parse_duration_ms(raw)
        case _:
            return None


def _texts(raw: Sequence[object]) -> tuple[str, ...] | None:
    """Return a list of texts, or None if something in it is no text or empty."""
    texts = [part for part in raw if isinstance(part, str) and part and "\0" not in part]
    return tuple(texts) if len(texts) == len(raw) else None


def describe(table: Sequence[Setting], values: Values) -> list[str]:
    """Return the values in effect as lines of a TOML file, each with its origin as a comment."""
    lines = []
    for setting in table:
        value, origin = values[setting.name]
        if value is None:
            lines.append(f"# {setting.name} is not set")
            continue
        bare = setting.kind in (Kind.FLAG, Kind.INTEGER)
        text = setting.format(value)
        if isinstance(value, tuple):
            bare, text = True, f"[{', '.join(map(_quoted, value))}]"
        lines.append(f"{setting.name} = {text if bare else _quoted(text)}  # {origin}")
    return lines


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, but for one character that TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class Option(NamedTuple):
    """One flag of a command, ready for whichever library reads the command line.

    ``flag`` is ``--name``, or ``--name/--no-name`` for a setting that is on or off. The
    library must give None for a flag that was not written, and text for one that was.
    """

    name: str
    flag: str
    metavar: str
    help: str
    is_switch: bool
    is_list: bool
    """Whether it may be written more than once."""

    @property
    def manner(self) -> dict[str, Any]:
        """How it is written, in the words that command line libraries share."""
        if self.is_switch:
            return {"is_flag": True}
        return {"metavar": self.metavar} | ({"multiple": True} if self.is_list else {})


def options(table: Sequence[Setting], prefix: str) -> list[Option]:
    """Return the flags of a table; their help names the default and the variable."""
    return [_option(setting, prefix) for setting in table]


def _option(setting: Setting, prefix: str) -> Option:
    switch = setting.kind is Kind.FLAG
    no = f"/--no-{setting.flag[2:]}" if switch else ""
    is_list = setting.kind is Kind.LIST
    metavar = setting.item if is_list else setting.kind.value.upper()
    if setting.choices:
        metavar = "|".join(setting.choices)
    has_default = setting.default not in (None, ())
    facts = [f"default: {setting.format(setting.default)}"] if has_default else []
    facts.append(f"env: {setting.variable(prefix)}")
    text = f"{setting.help}  [{'; '.join(facts)}]"
    return Option(setting.name, setting.flag + no, metavar, text, switch, is_list)


def _near(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"
