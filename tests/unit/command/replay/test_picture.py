"""The picture of a replay."""

from pathlib import Path

import pytest

from command.replay import picture
from command.replay.judge import days
from command.thresholds import thresholds
from common.errors import UserError
from tests.support.replayed import PREDICTED, judged_example


def test_the_picture_shows_each_day_and_marks_false_alarms(tmp_path: Path) -> None:
    example = judged_example()
    path = tmp_path / "picture.svg"
    picture.write(path, example, days(example), thresholds())
    svg = path.read_text()
    assert svg.startswith("<svg")
    assert [f">day {number}<" in svg for number in range(4)] == [True, True, True, False]
    assert f"<title>{PREDICTED}</title>" in svg
    assert "limit reached at 18:01" in svg
    assert "exhausted" in svg


def test_a_picture_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    example = judged_example()
    for name in ("picture.gif", "picture.png"):
        with pytest.raises(UserError, match=r"name a file that ends in \.svg"):
            picture.write(tmp_path / name, example, [], {})
    with pytest.raises(UserError, match="cannot write"):
        picture.write(tmp_path / "none" / "picture.svg", example, [], {})
