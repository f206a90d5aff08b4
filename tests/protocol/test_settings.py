import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.settings import (
    Kind,
    Setting,
    SettingsError,
    Values,
    describe,
    options,
    parse,
    resolve,
)

PREFIX = "PILLION_TEST_"
TABLE = (
    Setting("bind", Kind.TEXT, "tcp://localhost:1", "Where."),
    Setting("timeout", Kind.DURATION, 10_000, "How long.", low=1_000, high=60_000),
    Setting("room", Kind.SIZE, 2**20, "How much.", low=1, high=2**30),
    Setting("count", Kind.INTEGER, 5, "How many.", low=1, high=9),
    Setting("loud", Kind.FLAG, False, "Whether."),
    Setting("loop", Kind.CHOICE, "fast", "Which.", choices=("fast", "slow")),
    Setting("folder", Kind.PATH, None, "Whereto."),
    Setting("pause", Kind.DURATION, None, "Need not be set."),
    Setting("names", Kind.LIST, (), "Any number of them.", item="NAME"),
)


def resolved(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    file_text: str | None = None,
) -> Values:
    return resolve(
        TABLE,
        prefix=PREFIX,
        flags=flags or {},
        environ=environ or {},
        file_text=file_text,
        file_name="x.toml",
    )


def problems(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    file_text: str | None = None,
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        resolved(flags, environ, file_text)
    return caught.value.problems


def test_flag_wins_over_environment_over_file_over_default() -> None:
    flags: dict[str, object] = {"bind": "flag", "count": None}
    environ = {"PILLION_TEST_BIND": "environment", "PILLION_TEST_COUNT": "3"}
    file_text = 'bind = "file"\ncount = 2\ntimeout = "2s"'

    values = resolved(flags, environ, file_text)

    assert values["bind"] == ("flag", "flag --bind")
    assert values["count"] == (3, "environment PILLION_TEST_COUNT")
    assert values["timeout"] == (2_000, "file x.toml")
    assert values["room"] == (2**20, "default")
    assert set(values) == {setting.name for setting in TABLE}


def test_values_are_given_by_type() -> None:
    values = resolved({"loud": True, "folder": "/x"})

    assert values.text("folder") == "/x"
    assert values.text_or_none("bind") == "tcp://localhost:1"
    assert values.number("timeout") == 10_000
    assert values.flag("loud") is True
    assert values.number_or_none("pause") is None
    assert resolved({"pause": "1s"}).number_or_none("pause") == 1_000
    assert resolved().text_or_none("folder") is None


def test_unknown_name_in_the_file_is_an_error_with_the_nearest() -> None:
    assert problems(file_text='timeot = "2s"') == (
        "file x.toml: no setting is called 'timeot'; did you mean 'timeout'?",
    )


def test_unknown_variable_is_an_error_with_the_nearest() -> None:
    assert problems(environ={"PILLION_TEST_TIMEOT": "2s"}) == (
        "environment PILLION_TEST_TIMEOT: no such setting; did you mean 'PILLION_TEST_TIMEOUT'?",
    )


def test_name_like_no_other_is_answered_with_all_names() -> None:
    (problem,) = problems(file_text="zzzzzzzz = 1")

    assert "known: bind, timeout, room" in problem


@pytest.mark.parametrize(
    "variable",
    ["CONFIG", "SERVICE_HOST", "PORT", "PORT_7711_TCP", "ADMIN_SERVICE_PORT_HTTP", "PORT_1_UDP_X"],
)
def test_variable_for_the_file_and_those_of_kubernetes_are_no_settings(variable: str) -> None:
    assert len(resolved(environ={PREFIX + variable: "x"})) == len(TABLE)


def test_other_variables_are_not_looked_at() -> None:
    assert resolved(environ={"PATH": "/bin", "PILLION_OTHER_BIND": "x"})["bind"].origin == "default"


def test_empty_variable_counts_as_not_set() -> None:
    assert resolved(environ={"PILLION_TEST_TIMEOUT": ""})["timeout"].origin == "default"


def test_error_names_key_value_origin_and_range() -> None:
    assert problems({"timeout": "5m"}) == (
        "timeout = '5m' (flag --timeout): out of range; expected a duration from 1s to 1m, "
        "such as 250ms, 30s or 1h30m",
    )


def test_all_problems_are_named_at_once_even_behind_a_stronger_source() -> None:
    found = problems({"count": "2"}, {"PILLION_TEST_COUNT": "many"}, "room = 0\nnone = 1")

    assert [problem.split(" ")[0] for problem in found] == ["file", "room", "count"]


def test_file_that_is_no_toml_is_named_with_the_place() -> None:
    (problem,) = problems(file_text="bind = \n")

    assert problem.startswith("file x.toml: not TOML:")
    assert "line 1" in problem


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("loud", "yes", True),
        ("loud", "FALSE", False),
        ("loud", True, True),
        ("room", 4096, 4096),
        ("room", "1MiB", 2**20),
        ("count", "9", 9),
        ("loop", "slow", "slow"),
    ],
)
def test_accepted_value_is_read(name: str, raw: object, value: object) -> None:
    setting = next(s for s in TABLE if s.name == name)

    assert parse(setting, raw) == value


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("bind", ""),
        ("bind", 3),
        ("bind", "a\0b"),
        ("bind", True),
        ("timeout", 30),
        ("timeout", "30"),
        ("timeout", ["1s"]),
        ("room", -1),
        ("room", 1.5),
        ("count", True),
        ("count", "1.0"),
        ("count", 10**30),
        ("count", "9" * 5000),
        ("loud", "maybe"),
        ("loud", 1),
        ("loop", "medium"),
        ("folder", {"a": 1}),
    ],
)
def test_value_of_a_wrong_kind_or_range_is_refused_with_what_is_expected(
    name: str, raw: object
) -> None:
    setting = next(s for s in TABLE if s.name == name)

    with pytest.raises(ValueError, match="expected"):
        parse(setting, raw)


def test_long_value_is_cut_in_the_error() -> None:
    (problem,) = problems({"count": "9" * 5000})

    assert len(problem) < 200


def test_description_is_a_file_that_gives_the_same_values() -> None:
    values = resolved({"bind": 'with "quotes" and \\', "loud": True}, {"PILLION_TEST_COUNT": "7"})

    text = "\n".join(describe(TABLE, values))

    assert "count = 7  # environment PILLION_TEST_COUNT" in text
    assert "# folder is not set" in text
    again = resolved(file_text=text)
    assert {k: v.value for k, v in again.items()} == {k: v.value for k, v in values.items()}


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
@example("\x7f\t\u2028𐀀")
def test_any_text_survives_its_description(text: str) -> None:
    table = [replace(TABLE[0], default=text)]
    values = resolve(table, prefix=PREFIX, flags={}, environ={})

    (line,) = describe(table, values)

    assert tomllib.loads(line)["bind"] == text


def test_each_kind_says_what_it_expects() -> None:
    expected = {setting.name: setting.expected() for setting in TABLE}

    assert expected["bind"] == "a text that is not empty"
    assert expected["room"] == "a size from 1B to 1GiB, such as 64MiB"
    assert expected["count"] == "an integer from 1 to 9"
    assert expected["loud"] == "true or false"
    assert expected["loop"] == "one of fast, slow"


def test_option_names_flag_default_and_variable() -> None:
    found = {option.name: option for option in options(TABLE, PREFIX)}

    assert found["timeout"].flag == "--timeout"
    assert found["timeout"].metavar == "DURATION"
    assert found["timeout"].help == "How long.  [default: 10s; env: PILLION_TEST_TIMEOUT]"
    assert found["loud"].flag == "--loud/--no-loud"
    assert found["loud"].is_switch
    assert found["loop"].metavar == "fast|slow"
    assert found["folder"].help == "Whereto.  [env: PILLION_TEST_FOLDER]"


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        ({"flags": {"names": ("a", "b")}}, "flag --names"),
        ({"environ": {"PILLION_TEST_NAMES": "a, b"}}, "environment PILLION_TEST_NAMES"),
        ({"file_text": 'names = ["a", "b"]'}, "file x.toml"),
    ],
)
def test_list_may_come_from_each_source(source: dict[str, Any], origin: str) -> None:
    values = resolved(**source)

    assert values.texts("names") == ("a", "b")
    assert values["names"].origin == origin
    assert f'names = ["a", "b"]  # {origin}' in describe(TABLE, values)


def test_list_that_no_flag_gives_is_the_default() -> None:
    assert resolved({"names": ()}).texts("names") == ()
    assert next(o for o in options(TABLE, PREFIX) if o.name == "names").is_list


@pytest.mark.parametrize("text", ['names = [""]', "names = [1]", "names = 3"])
def test_list_of_something_else_is_refused(text: str) -> None:
    [problem] = problems(file_text=text)

    assert "expected a list of texts" in problem


def test_sections_asked_for_are_returned_as_they_stand() -> None:
    text = 'count = 3\n[parts."a.b"]\nx = 1'

    values = resolve(
        TABLE, prefix=PREFIX, flags={}, environ={}, file_text=text, sections=("parts",)
    )

    assert values.sections == {"parts": {"a.b": {"x": 1}}}
    assert values.number("count") == 3
    assert "no setting is called 'parts'" in problems(file_text=text)[0]
