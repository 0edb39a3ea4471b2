"""docs/runbook.md: what it tells someone woken at night to run can be run."""

import re
import shlex
from collections.abc import Iterator

import pytest

from command.commands import parser
from tests.support.rule_files import ROOT, alerts, names_in, published, recorded

TEXT = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
# Of rules/forecast.yml.
FORECAST = {"LLMBudgetPredictedExhaustion", "LLMBudgetBurnRateHigh"}


def commands() -> Iterator[str]:
    """Code blocks' lines and inline code, each on one line, without a comment."""
    for line in re.findall(r"^    (.+)$", TEXT, re.MULTILINE):
        yield line.partition("  #")[0].strip()
    for span in re.findall(r"`([^`]+)`", TEXT):
        yield " ".join(span.split())


def test_its_sections_are_the_alerts() -> None:
    assert set(SECTIONS) | FORECAST == set(alerts()) | FORECAST


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_four_things_in_order(name: str) -> None:
    words = re.findall(r"\*\*(\w+)\.\*\*", SECTIONS[name])
    assert words == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@pytest.mark.parametrize("command", [c for c in commands() if "llm-budget " in c])
def test_its_commands_parse(command: str) -> None:
    argv = shlex.split(command)
    assert argv[0] in (".venv/bin/llm-budget", "llm-budget")
    parser().parse_args(argv[1:])


def test_the_commands_that_alerts_say_parse() -> None:
    said = {rule["annotations"].get("command", "llm-budget status") for rule in alerts().values()}
    for command in said:
        argv = shlex.split(re.sub(r"\{\{.*?\}\}", "x", command))
        assert argv[0] in ("llm-budget", "curl"), command
        if argv[0] == "llm-budget":
            parser().parse_args(argv[1:])


@pytest.mark.parametrize("query", [c for c in commands() if c.startswith("promtool query")])
def test_its_queries_ask_for_figures_that_exist(query: str) -> None:
    expression = shlex.split(query)[-1]
    foretold = {name for name in names_in(expression) if re.search("forecast|exhaustion", name)}
    assert names_in(expression)
    assert names_in(expression) - foretold <= recorded() | published()
