"""A connection for each test that wants one."""

from collections.abc import Iterator

import pytest

from tests.sidecar.http.wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made
