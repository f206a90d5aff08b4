"""CI's share of the crash images, and the proof that broken durability would be seen."""

import os
from pathlib import Path

import pytest

from tests.crash_images import campaign, recorder
from tests.crash_images.sabotage import KINDS

IMAGES = int(os.environ.get("PILLION_CRASH_IMAGES", "1000"))
SEED = 1
WORKERS = min(2, os.cpu_count() or 1)


@pytest.fixture(autouse=True, scope="module")
def needs_a_compiler(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        recorder.build(tmp_path_factory.mktemp("recorder"))
    except recorder.NoCompiler as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.mark.share
@pytest.mark.timeout(120)
def test_whatever_a_power_cut_leaves_holds_all_that_was_acknowledged(tmp_path: Path) -> None:
    report = campaign.run(SEED, range(IMAGES), workers=WORKERS, keep=tmp_path)

    assert [str(failure) for failure in report.failures] == []
    assert report.images == IMAGES
    assert report.commits > 200


@pytest.mark.share
@pytest.mark.timeout(120)
def test_whatever_a_power_cut_leaves_of_a_spool_holds_all_that_was_spooled(tmp_path: Path) -> None:
    images = range(IMAGES)
    report = campaign.run(SEED, images, workers=WORKERS, keep=tmp_path, subject="spool")

    assert [str(failure) for failure in report.failures] == []
    assert report.images == len(images)
    assert report.commits > 100


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sabotage", KINDS)
def test_broken_durability_is_seen(sabotage: str) -> None:
    report = campaign.run(SEED, range(200), workers=WORKERS, sabotage=sabotage)

    assert report.failures
    assert report.images == 200
