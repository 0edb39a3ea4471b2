"""contacts.yml: checked, and rendered as templates that no name can break out of."""

from pathlib import Path

import pytest

from command.paths import CONTACTS
from command.stack.contacts import Contacts, Links, Mail, Person, template
from common.errors import UserError
from common.yamlfile import read_as


def test_a_contacts_name_is_text_and_never_template_code() -> None:
    person = Person("Owner", name='{{ .Secret }} "x\\', phone="+49 1", chat="@x")
    text = template(Contacts(Mail(["a@example.com"]), [person, Person("Nobody")]))
    assert '{{ "Owner: {{ .Secret }} \\"x\\\\ (+49 1, @x)" }}' in text
    assert "Nobody" not in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("to: [llm-budget@example.com]", "to: [nobody]"), "'nobody' is not a mail address"),
        (("to: [llm-budget@example.com]", "to: []"), "at least one address"),
        (("role:", "rank:"), "rank"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(
    change: tuple[str, str], problem: str, tmp_path: Path
) -> None:
    text = CONTACTS.read_text()
    assert change[0] in text
    wrong = tmp_path / "contacts.yml"
    wrong.write_text(text.replace(*change))
    with pytest.raises(UserError, match=rf"contacts\.yml.*{problem}"):
        read_as(wrong, Contacts)


@pytest.mark.parametrize(
    ("links", "page", "problem"),
    [
        (Links(), "docs/runbook.md", "no links: set links.page, the exporter's URL"),
        (Links("http://127.0.0.1:8000/"), "http://127.0.0.1:8000/runbook", "links.page is on"),
        (Links("http://[::1]:8000"), "http://[::1]:8000/runbook", "links.page is on loopback"),
        (Links("https://b.example"), "https://b.example/runbook", ""),
        (Links("https://b.example/llm/"), "https://b.example/llm/runbook", ""),
        (Links(runbook="https://b.example"), "https://b.example/runbook", ""),
        (Links(runbook="https://b.example/wiki"), "https://b.example/wiki", ""),
        (Links("https://b.example", "http://localhost/r"), "http://localhost/r", "links.runbook"),
    ],
)
def test_the_runbooks_page_follows_from_the_links(links: Links, page: str, problem: str) -> None:
    assert links.runbook_page == page
    assert links.problem.startswith(problem)
    assert bool(links.problem) is bool(problem)


@pytest.mark.parametrize(
    "url", ["budget", "ftp://b", "https://", "http://u:p@b", "https://b/<!channel>", "http://b|c"]
)
def test_a_link_is_a_url_that_is_no_markup(url: str) -> None:
    with pytest.raises(UserError, match=r"links\.page .* is not a URL like"):
        Links(url)
