"""contacts.yml: whom the alerts concern, rendered as Alertmanager templates."""

import json
import re
from urllib.parse import urlsplit

from msgspec import Struct, field

from common.errors import UserError
from common.http import is_loopback

_URL = re.compile(r"https?://[^\s<>|\"{}@?#]+")
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


class Links(Struct, frozen=True, forbid_unknown_fields=True):
    """Where people's browsers find the pages: URLs, "" where there is none."""

    page: str = ""  # the exporter's status page
    runbook: str = ""  # by default the exporter's, or the file in the checkout
    prometheus: str = ""
    grafana: str = ""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if (url := getattr(self, name)) and not (
                _URL.fullmatch(url) and urlsplit(url).hostname
            ):
                raise UserError(
                    f"links.{name} {url!r} is not a URL like https://budget.example.com"
                )

    @property
    def runbook_page(self) -> str:
        """What an alert's anchor is put behind; an address alone is an exporter's."""
        base = (self.runbook or self.page).rstrip("/")
        own = base and (not self.runbook or not urlsplit(base).path)
        return f"{base}/runbook" if own else base or "docs/runbook.md"

    @property
    def problem(self) -> str:
        """Why a phone cannot open them; "" when it can."""
        for name in ("page", "runbook"):
            if is_loopback(urlsplit(getattr(self, name)).hostname or ""):
                return f"links.{name} is on loopback: only this machine opens it"
        return "" if self.page or self.runbook else "no links: set links.page, the exporter's URL"


class Contacts(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of contacts.yml."""

    mail: Mail
    people: list[Person] = field(default_factory=list)
    links: Links = field(default_factory=Links)


def template(contacts: Contacts) -> str:
    """The contacts.* templates; text is quoted, so that no name is taken for template code."""
    links = contacts.links
    named = {"Status": links.page, "Prometheus": links.prometheus, "Grafana": links.grafana}
    defined = {
        "contacts.mail_to": ", ".join(contacts.mail.to),
        "contacts.mail_from": contacts.mail.from_,
        "contacts.page": links.page,
        "contacts.runbook": links.runbook_page,
        "contacts.links": "".join(f"{name}: {url}\n" for name, url in named.items() if url),
        "contacts.people": "\n".join(one.line for one in contacts.people if one.name),
    }
    return "".join(  # JSON's quoting is a Go string literal
        f'{{{{ define "{name}" }}}}{{{{ {json.dumps(text, ensure_ascii=False)} }}}}{{{{ end }}}}\n'
        for name, text in defined.items()
    )
