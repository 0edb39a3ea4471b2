"""Who hears of an alert of each severity, and by which way; or that nobody does, and why."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from command.stack.binaries import need
from command.stack.contacts import Contacts
from common.errors import UserError
from common.yamlfile import read_as, read_document

SEVERITIES = ("critical", "warning", "info")
EXAMPLES = ("@example.com", "@example.org", "@example.net", "@localhost")  # nobody reads mail there


def reach(
    config: Path, contacts: Path, folder: Path, contained: bool = False
) -> Iterator[tuple[str, bool, str]]:
    """Of each severity: its name, whether somebody is reached, and by which ways.

    config: an alertmanager.yml, whose routes amtool follows. folder: where Alertmanager runs, to
    which secrets/ is relative. contained: it runs in a container. Raises UserError.
    """
    document = read_document(config)
    receivers = {one["name"]: ways_of(one) for one in document["receivers"]}
    common = {
        "to": ", ".join(read_as(contacts, Contacts).mail.to),
        **{key.removeprefix("smtp_"): value for key, value in document.get("global", {}).items()},
    }
    for severity in SEVERITIES:
        said, reached = [], False
        for name, kind, one in _ways(config, severity, receivers):
            own = {key: value for key, value in one.items() if "{{" not in str(value)}
            settings = {**common, **own} if kind == "email" else own
            problems = ", ".join(_problems(settings, folder, contained))
            told = f" to {settings['to']}" if kind == "email" else ""
            said.append(f"{name} by {kind}{told}" + (problems and f" does not work: {problems}"))
            reached |= not problems
        words = "; ".join(said) or "the receiver has no way"
        yield severity, reached, words if reached else f"nobody is told: {words}"


def ways_of(receiver: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A receiver's settings by integration, as Alertmanager's metrics call it."""
    known = (key for key in receiver if key.endswith("_configs"))
    return {key.removesuffix("_configs"): receiver[key] for key in known}


def _ways(
    config: Path, severity: str, receivers: Mapping[str, Mapping[str, list[dict[str, Any]]]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    argv = [need("amtool"), "config", "routes", "test", f"--config.file={config}"]
    done = subprocess.run([*argv, f"severity={severity}"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{config} is no config of Alertmanager: amtool check-config says why")
    for name in filter(receivers.__contains__, done.stdout.strip().split(",")):
        for kind, several in receivers[name].items():
            yield from ((name, kind, settings) for settings in several)


def _problems(settings: Mapping[str, Any], folder: Path, contained: bool) -> Iterator[str]:
    """Why a way cannot work, as far as files and the mail server tell."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _problems(value, folder, contained)
        elif key.endswith("_file") and not _filled(folder / value):
            yield f"{folder / value} is missing or empty"
        elif key == "to" and all(one.endswith(EXAMPLES) for one in value.split(", ")):
            yield "mail.to in contacts.yml is the example's"
        elif key == "smarthost" and contained and value.startswith(("127.", "localhost:")):
            yield f"{value} is the container itself, not this host's mail server"
        elif key == "smarthost" and not _answers(value):
            yield f"no mail server answers at {value}"


def _filled(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK) and bool(file.read_bytes().strip())


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True
