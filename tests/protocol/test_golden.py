import shutil
from pathlib import Path

import pytest

from protocol import codec
from protocol.submission import check, decode_batch
from protocol.version import VERSION_MAX
from tests.protocol import golden
from tests.protocol.examples import BATCHES, MESSAGES
from tests.protocol.golden import __main__ as command


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_version_1_keep_their_bytes(name: str) -> None:
    data = (golden.FOLDER / f"{name}.bin").read_bytes()
    assert codec.encode(MESSAGES[name]) == data
    assert codec.decode(data) == MESSAGES[name]


@pytest.mark.parametrize("name", BATCHES)
def test_batches_of_version_1_keep_their_bytes(name: str) -> None:
    data = (golden.FOLDER / f"{name}.bin").read_bytes()
    assert golden.encodings()[name] == data
    assert [check(i, raw) for i, raw in enumerate(decode_batch(data))] == BATCHES[name]


def test_every_golden_file_belongs_to_an_example() -> None:
    assert {path.stem for path in golden.FOLDER.glob("*.bin")} == set(golden.encodings())


def test_the_newest_version_has_golden_bytes() -> None:
    assert golden.FOLDER.name == f"v{VERSION_MAX}"


def test_command_adds_missing_files_and_refuses_to_change_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(golden.FOLDER, folder)
    monkeypatch.setattr(command, "FOLDER", folder)
    assert command.main([]) == 0

    (folder / "beat.bin").unlink()
    assert command.main([]) == 1
    assert command.main(["--write"]) == 0
    assert (folder / "beat.bin").read_bytes() == golden.encodings()["beat"]

    (folder / "beat.bin").write_bytes(b"other")
    assert command.main(["--write"]) == 1
    assert (folder / "beat.bin").read_bytes() == b"other"
    assert "beat.bin: differs" in capsys.readouterr().err
