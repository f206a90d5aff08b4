import sys

import pytest

from tests.support.programs import need, version


def test_version_is_what_the_program_says() -> None:
    assert version(sys.executable) == sys.version_info[:2]


def test_what_is_not_installed_has_no_version() -> None:
    assert version("no-such-program") is None


def test_missing_or_old_program_skips_and_says_why() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        need("no-such-program", 1)
    with pytest.raises(pytest.skip.Exception, match=r"the example needs 99\.1"):
        need(sys.executable, 99, 1)

    need(sys.executable, 3, 11)
