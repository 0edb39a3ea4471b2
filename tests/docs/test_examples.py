"""`make test` tries the same examples each time; what a seed does not repeat is in no test."""

import re

import pytest
from hypothesis import settings

from tests.support.examples import FUZZING
from tests.support.paths import ROOT

SOURCES = sorted((ROOT / "tests").rglob("*.py"))


def test_the_profile_is_derandomized_outside_make_fuzz() -> None:
    assert settings().derandomize is not FUZZING


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"max_examples=\d", "max_examples=examples(…)"),
        (r"\brandom\.(random|choice|choices|randint|shuffle|sample|uniform)\(", "random.Random(7)"),
        (r"random\.Random\(\)|SystemRandom", "random.Random(7)"),
    ],
)
def test_no_test_draws_numbers_that_a_seed_does_not_repeat(pattern: str, instead: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name != "test_examples.py" and re.search(pattern, path.read_text())
    ]
    assert not found, f"write {instead}"
