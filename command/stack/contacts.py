"""contacts.yml: whom the alerts concern, rendered as Alertmanager templates."""

import json
import re

from msgspec import Struct, field

from common.errors import UserError

_ADDRESS = re.compile(r"[^\s@,{}]+@[^\s@,{}]+")


class Person(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the messages' end; a person without a name is left out."""

    role: str
    name: str = ""
    phone: str = ""
    chat: str = ""

    @property
    def line(self) -> str:
        ways = ", ".join(filter(None, (self.phone, self.chat)))
        return f"{self.role}: {self.name}" + (f" ({ways})" if ways else "")


class Mail(Struct, frozen=True, forbid_unknown_fields=True):
    """Mail addresses."""

    to: list[str]
    from_: str = field(name="from", default="llm-budget@localhost")

    def __post_init__(self) -> None:
        for address in (*self.to, self.from_):
            if not _ADDRESS.fullmatch(address):
                raise UserError(f"{address!r} is not a mail address")
        if not self.to:
            raise UserError("mail.to needs at least one address")


class Contacts(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of contacts.yml."""

    mail: Mail
    people: list[Person] = field(default_factory=list)


def template(contacts: Contacts) -> str:
    """The contacts.* templates; text is quoted, so that no name is taken for template code."""
    defined = {
        "contacts.mail_to": ", ".join(contacts.mail.to),
        "contacts.mail_from": contacts.mail.from_,
        "contacts.people": "\n".join(one.line for one in contacts.people if one.name),
    }
    return "".join(  # JSON's quoting is a Go string literal
        f'{{{{ define "{name}" }}}}{{{{ {json.dumps(text, ensure_ascii=False)} }}}}{{{{ end }}}}\n'
        for name, text in defined.items()
    )
