"""contacts.yml: checked, and rendered as templates that no name can break out of."""

from pathlib import Path

import pytest

from command.paths import CONTACTS
from command.stack.contacts import Contacts, Mail, Person, template
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
