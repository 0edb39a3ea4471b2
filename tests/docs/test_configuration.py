"""Every key, flag and environment variable is in docs/configuration.md or the page it links to."""

import argparse
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Struct
from msgspec.structs import fields

from alertmanager.receiver.service import parser as receiver_parser
from command.stack.contacts import Contacts
from common.yamlfile import read_as
from exporter.config import Config, load_config
from exporter.service import parser as exporter_parser
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
# A key that has a page of its own may have its inner keys there.
OWN_PAGES = {"log": DOCS / "log.md", "prices": DOCS / "prices.md"}
CONFIGURATION = (DOCS / "configuration.md").read_text()


def structs_of(hint: Any) -> Iterator[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield hint
    for argument in get_args(hint):
        yield from structs_of(argument)


def keys_of(kind: type[Struct], path: str = "") -> Iterator[str]:
    """Dotted paths of every key; what lies in a list or a mapping hangs below it."""
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        here = f"{path}.{item.encode_name}" if path else item.encode_name
        inner = list(structs_of(hints[item.name]))
        for struct in inner:
            yield from keys_of(struct, here)
        if not inner:
            yield here


def documented(key: str) -> bool:
    page = OWN_PAGES.get(key.partition(".")[0])
    text = CONFIGURATION + (page.read_text() if page and page.exists() else "")
    steps = [re.escape(step) for step in key.split(".")]
    # `prices.<model>.x` and `people[].x` document prices.x and people.x.
    whole = r"(?:\[\])?\.(?:<\w+>\.)?".join(steps)
    return bool(re.search(rf"`{whole}`", text) or (page and f"`{steps[-1]}`" in text))


@pytest.mark.parametrize("key", [*keys_of(Config), *keys_of(Contacts)])
def test_every_key_is_documented(key: str) -> None:
    assert documented(key), f"{key} is missing in docs/configuration.md"


def test_the_reader_of_keys_finds_them_at_every_depth() -> None:
    keys = set(keys_of(Config)) | set(keys_of(Contacts))
    expected = {"budget.daily_limit_usd", "budget.roasters", "prices.input_usd_per_1k",
                "access.hosts", "mail.from", "people.role"}  # fmt: skip
    assert expected <= keys
    assert not documented("budget.invented")


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    flags = (flag for action in parser._actions for flag in action.option_strings)
    return [flag for flag in flags if flag.startswith("--")]


@pytest.mark.parametrize(
    ("flag", "section"),
    [(flag, "exporter") for flag in flags_of(exporter_parser())]
    + [(flag, "receiver") for flag in flags_of(receiver_parser())],
)
def test_every_flag_is_documented_in_its_service_s_section(flag: str, section: str) -> None:
    text = next(part for part in CONFIGURATION.split("\n## ") if part.startswith(f"The {section}:"))
    assert flag == "--help" or re.search(rf"`{flag}[ `]", text), f"{flag} is missing"


def environment_of_the_source() -> set[str]:
    names: set[str] = set()
    for folder in ("exporter", "alertmanager"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            names |= set(re.findall(r"LLM_BUDGET_[A-Z]+(?:_[A-Z]+)*", text))
            for token in re.findall(r'\btoken\("([a-z]+)"', text.replace("read_token", "token")):
                names |= {f"LLM_BUDGET_{token.upper()}_TOKEN{end}" for end in ("", "_FILE")}
    return names


def test_every_environment_variable_is_documented() -> None:
    names = environment_of_the_source()
    assert len(names) >= 8
    assert {name for name in names if f"`{name}`" not in CONFIGURATION} == set()


def test_the_shipped_files_say_what_the_defaults_are() -> None:
    assert load_config(ROOT / "budget.yml") == Config()
    assert read_as(ROOT / "contacts.yml", Contacts).mail.to


def test_links_between_the_pages_of_this_topic_resolve() -> None:
    for name in ("configuration", "security", "backup"):
        for link in re.findall(r"\]\(([\w/.-]+\.md)\)", (DOCS / f"{name}.md").read_text()):
            others = {"log.md", "prices.md", "degradation.md"}  # written by their own parts
            assert (DOCS / link).exists() or link in others, f"{name}.md links to {link}"
