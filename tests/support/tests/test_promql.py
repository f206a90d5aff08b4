import pytest

from tests.support.promql import Checker, Wrong, exported, placeholders

SCRAPED = """\
# TYPE a_total counter
a_total{handler="x"} 1
# TYPE g gauge
g{handler="x",state="ready"} 1
# TYPE h gauge
h{handler="x"} 1
# TYPE w histogram
w_bucket{handler="x",le="+Inf"} 1
w_sum{handler="x"} 1
w_count{handler="x"} 1
"""
CHECKER = Checker(exported(SCRAPED))


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("h", {"handler", "instance", "job"}),
        ("sum(h)", set()),
        ("sum by (handler) (rate(a_total[5m]))", {"handler"}),
        ("sum without (handler) (h)", {"instance", "job"}),
        ("topk(3, h)", {"handler", "instance", "job"}),
        ("rate(a_total[5m]) / rate(w_count[5m]) > 0.5", {"handler", "instance", "job"}),
        ('g{state="ready"} - ignoring (state) h > 0 and h == 0', {"handler", "instance", "job"}),
        ("histogram_quantile(0.9, sum by (le) (rate(w_bucket[5m])))", set()),
        ('up{job="x"} == 0 or absent(up)', set()),
        ("sum by (instance) (h and on (instance) h)", {"instance"}),
        ("count(-h) or vector(0)", set()),
    ],
)
def test_expression_that_works_yields_labels(expression: str, labels: set[str]) -> None:
    assert CHECKER.check(expression) == labels


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(h", "invalid|expected|unclosed"),
        ("b_total", "b_total is not exported"),
        ('h{state="ready"}', "h has no label state"),
        ('g{state="raedy"}', r"no state of \['raedy'\]"),
        ('g{state=~"ready|held"}', r"no state of \['held'\]"),
        ("a_total", "a_total only grows: take its rate"),
        ("w_bucket", "only grows"),
        ("rate(h[5m])", "h does not only grow"),
        ("sum by (service) (h)", r"by \['service'\], which is not there"),
        ("histogram_quantile(0.9, rate(w_count[5m]))", "has no le"),
        ("g - h", "never matches"),
        ("sum(h) / h", "never matches"),
        ("h and on (state) g", "labels that are not there"),
        ("label_replace(h, 'a', 'b', 'c', 'd')", "no rule for label_replace"),
    ],
)
def test_expression_that_cannot_work_is_told(expression: str, wrong: str) -> None:
    with pytest.raises(Wrong, match=wrong):
        CHECKER.check(expression)


def test_label_of_a_name_is_looked_up() -> None:
    CHECKER.label("h", "handler")
    with pytest.raises(Wrong, match="h has no label state"):
        CHECKER.label("h", "state")
    with pytest.raises(Wrong, match="x is not exported"):
        CHECKER.label("x", "state")


def test_variables_get_values() -> None:
    assert placeholders('h{a=~"$x"}[$y]', [("x", ".*"), ("y", "5m")]) == 'h{a=~".*"}[5m]'
