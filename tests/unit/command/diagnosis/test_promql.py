"""The same expression in two layouts, and what makes two expressions differ."""

import pytest

from command.diagnosis.promql import meaning, seconds

SAME = [
    ("sum(x{a='b'}) by (c)  # why\n/ 1e9", 'sum by (c) (x{a="b"}) / 1e+09'),
    ("max_over_time(x[26h:1d] offset 7d)", "max_over_time(x[1d2h:1d] offset 1w)"),
    ("a:b:c >= 0.50", "a:b:c >= 0.5"),
    ('x{a=~"b#c"}', 'x{a=~"b#c"}'),
]
DIFFERENT = [
    ("x > 0.75", "x > 0.751"),
    ("x[5m]", "x[6m]"),
    ("x >= 1", "x > 1"),
    ('x{a="b"}', 'x{a!="b"}'),
    ('x{a="b c"}', 'x{a="c b"}'),
    ("a:b", "a:c"),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME)
def test_a_layout_does_not_count(ours: str, theirs: str) -> None:
    assert meaning(ours) == meaning(theirs)


@pytest.mark.parametrize(("ours", "theirs"), DIFFERENT)
def test_a_change_counts(ours: str, theirs: str) -> None:
    assert meaning(ours) != meaning(theirs)


@pytest.mark.parametrize(
    ("text", "value"), [("1d2h", 93600), ("90s", 90), ("15d", 1296000), ("500ms", 0.5)]
)
def test_a_duration_has_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5m!", "-5m", "10GiB"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)
