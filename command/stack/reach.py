"""Who hears of an alert of each severity, and by which way; or that nobody does, and why."""

import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from command.stack.binaries import need
from command.stack.contacts import Contacts
from common.yamlfile import read_as, read_document

SEVERITIES = ("critical", "warning", "info")
EXAMPLES = ("example.com", "example.org", "example.net", "localhost")  # nobody reads mail there


def reach(config: Path, contacts: Path, folder: Path) -> Iterator[tuple[str, bool, str]]:
    """Of each severity: its name, whether somebody is reached, and by which ways.

    config: an alertmanager.yml, whose routes amtool follows. folder: where Alertmanager runs, to
    which secrets/ is relative. Raises UserError.
    """
    document = read_document(config)
    receivers = {one["name"]: one for one in document["receivers"]}
    people = read_as(contacts, Contacts)
    for severity in SEVERITIES:
        ways = [
            _way(name, kind, settings, document, people, folder)
            for name in _routed(config, severity)
            for kind, several in ways_of(receivers[name]).items()
            for settings in several
        ]
        reached = any(works for works, _ in ways)
        said = "; ".join(words for _, words in ways) or "the receiver has no way"
        yield severity, reached, said if reached else f"nobody is told: {said}"


def ways_of(receiver: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A receiver's settings by integration, as Alertmanager's metrics call it."""
    known = (key for key in receiver if key.endswith("_configs"))
    return {key.removesuffix("_configs"): receiver[key] for key in known}


def _routed(config: Path, severity: str) -> list[str]:
    argv = [need("amtool"), "config", "routes", "test", f"--config.file={config}"]
    done = subprocess.run([*argv, f"severity={severity}"], capture_output=True, text=True)
    return done.stdout.strip().split(",") if done.returncode == 0 else []


def _way(
    name: str,
    kind: str,
    settings: Mapping[str, Any],
    document: Mapping[str, Any],
    people: Contacts,
    folder: Path,
) -> tuple[bool, str]:
    """Whether one way of a receiver can work, as far as its files tell; and in words."""
    common = document.get("global") or {}
    files = [
        folder / file for file in _files({**common, **settings} if kind == "email" else settings)
    ]
    problems = [f"{file} is missing or empty" for file in files if not _filled(file)]
    target = ""
    if kind == "email":
        told = settings.get("to", "")
        target = f" to {', '.join(people.mail.to) if '{{' in told else told}"
        host = settings.get("smarthost") or common.get("smtp_smarthost", "")
        if all(one.rpartition("@")[2] in EXAMPLES for one in people.mail.to) and "{{" in told:
            problems.append("mail.to in contacts.yml is the example's")
        if not _answers(host):
            problems.append(f"no mail server answers at {host or 'smtp_smarthost'}")
    words = f"{name} by {kind}{target}"
    return not problems, words + (f" does not work: {', '.join(problems)}" if problems else "")


def _files(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _files(value)
        elif key.endswith("_file"):
            yield str(value)


def _filled(file: Path) -> bool:
    try:
        return bool(file.read_text().strip())
    except (OSError, UnicodeError):
        return False


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True
