"""The text of metrics, as the library of Prometheus reads it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from coordinator.http.exposition import Exposition

LABELS = st.dictionaries(st.sampled_from(["handler", "state"]), st.text(), max_size=2)


def samples_of(out: Exposition) -> list[Any]:
    return [s for family in text_string_to_metric_families(out.text) for s in family.samples]


@given(LABELS, st.floats(0, 1e12) | st.integers(0, 10**15))
def test_whatever_a_label_holds_is_read_as_it_was(labels: dict[str, str], value: float) -> None:
    out = Exposition()
    out.family("a_total", "counter", "Help.", [(labels, value)])

    (sample,) = samples_of(out)

    assert (sample.name, sample.labels, sample.value) == ("a_total", labels, value)


@given(st.lists(st.integers(0, 100), min_size=3, max_size=9))
def test_buckets_add_up_and_what_lies_beyond_is_in_the_last(buckets: list[int]) -> None:
    out = Exposition()
    out.histogram("t", "Help.", [0.001, 0.002, 0.004], [({"handler": "a"}, buckets, 7.5)])

    samples = {(s.name, s.labels.get("le")): s.value for s in samples_of(out)}

    for place, bound in enumerate(("0.001", "0.002", "0.004")):
        assert samples["t_bucket", bound] == sum(buckets[: place + 1])
    assert samples["t_bucket", "+Inf"] == samples["t_count", None] == sum(buckets)
    assert samples["t_sum", None] == 7.5
