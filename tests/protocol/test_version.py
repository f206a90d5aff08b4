import tomllib
from pathlib import Path

import pytest

from protocol import version
from protocol.version import negotiate


@pytest.mark.parametrize(
    ("ours", "peers", "chosen"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 9), 1),
        ((1, 1), (0, 1), 1),
        ((1, 1), (2, 9), None),
        ((2, 3), (1, 2), 2),
        ((2, 3), (1, 3), 3),
        ((2, 3), (3, 4), 3),
        ((2, 3), (1, 1), None),
        ((2, 3), (4, 4), None),
        ((1, 3), (3, 1), None),
        ((1, 1), (0, 0), None),
    ],
)
def test_highest_common_version_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    ours: tuple[int, int],
    peers: tuple[int, int],
    chosen: int | None,
) -> None:
    monkeypatch.setattr(version, "VERSION_MIN", ours[0])
    monkeypatch.setattr(version, "VERSION_MAX", ours[1])
    assert negotiate(*peers) == chosen


def test_software_version_is_that_of_the_package() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == version.SOFTWARE


def test_magic_is_no_http_method() -> None:
    assert len(version.LOCAL_MAGIC) == 4
    assert version.LOCAL_MAGIC[3] < 32
