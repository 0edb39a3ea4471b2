"""docs/degradation.md describes the levels and tunings of the shipped ladder."""

import inspect
import re
from typing import get_args

from alertmanager.receiver import ledgers
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.hooks import HookStep
from alertmanager.receiver.store import Store
from tests.support.ladders import shipped_ladder
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "degradation.md").read_text()


def first_cells(head: str) -> list[str]:
    """The first cell of each row, in order, of the table whose head begins with this word."""
    (table,) = re.findall(rf"^\| {head} \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()]


def test_the_levels_are_those_of_the_shipped_ladder_in_order() -> None:
    assert first_cells("level") == shipped_ladder().names[1:]


def test_the_tunings_are_those_of_the_shipped_ladder_in_order() -> None:
    written = [
        f"{tuning.tuning}/{tuning.scope.upper()}" if tuning.scope else tuning.tuning
        for tuning in shipped_ladder().tunings
    ]
    assert first_cells("tuning") == written


def test_the_problems_are_those_that_the_receiver_names() -> None:
    named = {*get_args(HookStep)}
    for code in (Controller.problems, Controller.failures, ledgers.problems):
        named |= set(re.findall(r'"([a-z ]+)":|found\["([a-z ]+)"\]', inspect.getsource(code)))
    named |= set(re.findall(r'_done\("(\w+)"', inspect.getsource(Store)))
    flat = {word for one in named for word in ([one] if isinstance(one, str) else one) if word}
    (table,) = re.findall(r"^\| about \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    told = {
        about
        for row in table.splitlines()
        for about in re.findall("`([a-zU RL]+)`", row.split("|")[1])
    }
    assert told == flat | {"ruler of URL"}
