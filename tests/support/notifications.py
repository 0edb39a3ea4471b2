"""What each receiver of people would be sent, rendered by amtool from the shipped templates."""

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from command.paths import ALERTMANAGER
from command.stack.binaries import need
from command.stack.configs import write_alertmanager
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "data" / "notifications"
PEOPLE = ("page", "chat", "mail")
ADDRESSES = {"receiver": "127.0.0.1:8001"}
CONTACTS = """
mail: {to: [ops@example.com, boss@example.com], from: llm-budget@example.com}
links: {page: https://budget.example.com, grafana: https://grafana.example.com/d/llm}
people: [{role: Budget manager, name: Asha Rao, phone: +49 30 1}, {role: Nobody}]
"""
RUNBOOK = "docs/runbook.md#"
SPENT = " is spent, {}% of today's LLM budget. The receiver applies the level "


def alert(name: str, description: str, status: str = "firing", **more: str) -> dict[str, Any]:
    """An alert as a template sees it."""
    notes = {"summary": "A sentence.", "description": description}
    notes["runbook_url"] = RUNBOOK + name.lower()
    if command := more.pop("command", ""):
        notes["command"] = command
    return {"status": status, "labels": {"alertname": name, **more}, "annotations": notes}


def critical(status: str = "firing") -> dict[str, Any]:
    return alert(
        "LLMBudgetCritical",
        f"$91.20 of $100.00{SPENT.format('91.2')}emergency.",
        status,
        severity="critical",
        degradation="emergency",
        command="llm-budget grant 20 --reason TEXT",
    )


def exhausted(status: str = "firing") -> dict[str, Any]:
    text = f"$12345.60 of $12000.00{SPENT.format('102.9')}fallback: no LLM calls."
    labels = {"severity": "critical", "degradation": "fallback"}
    return alert("LLMBudgetExhausted", text, status, **labels)


def capped(roaster: str, status: str = "firing") -> dict[str, Any]:
    text = (
        f"$1204.00 is what {roaster} has spent today, its whole cap. The receiver allows it no LLM "
        "calls until the next budget day, or a grant for it."
    )
    labels = {"severity": "warning", "tuning": "roaster_stop", "roaster": roaster}
    return alert("LLMRoasterCapReached", text, status, **labels)


HOSTILE = (
    "<!channel> <https://evil.example|naivo> *b* `c` ~d~ www.evil.example a@evil.example "
    "\u202eoavin\u2066\u200b\x1b[2J\nThe receiver applies nothing $0.01 of $9"
)
CASES: dict[str, list[dict[str, Any]]] = {
    "one fires": [critical()],
    "one is resolved": [critical("resolved")],
    "two fire": [critical(), exhausted()],
    "one fires, one is resolved": [critical("resolved"), exhausted()],
    "two are resolved": [critical("resolved"), exhausted("resolved")],
    "300 roasters": [capped(f"roaster-{number:03}") for number in range(300)],
    "300 roasters are resolved": [capped(f"r-{n:03}", "resolved") for n in range(300)],
    "a hostile name": [capped(HOSTILE)],
    "a long name": [capped("x" * 100_000)],
    "no money": [
        alert("LLMProviderUnavailable", "It has not answered for five minutes.", severity="warning")
    ],
    "nothing is known": [{"status": "firing", "labels": {}, "annotations": {}}],
}


def data(alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """A notification's data as Alertmanager gives it to templates."""
    names = {one["labels"].get("alertname", "") for one in alerts}
    firing = any(one["status"] == "firing" for one in alerts)
    return {
        "receiver": "x",
        "status": "firing" if firing else "resolved",
        "alerts": alerts,
        "groupLabels": {},
        "commonLabels": {"alertname": names.pop()} if len(names) == 1 else {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
    }


def templated(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The settings of a receiver that are templates, by their path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from templated(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for item in node:
            yield from templated(item, path)
    elif "{{" in str(node):
        yield path, node


@cache
def receivers() -> dict[str, dict[str, str]]:
    """Of each receiver its templates."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    return {one["name"]: dict(templated(one)) for one in config["receivers"]}


def rendered(
    receiver: str,
    alerts: list[dict[str, Any]],
    amtool: str | None = None,
    contacts: str = CONTACTS,
) -> str:
    """Each setting of the receiver as it would be sent."""
    text = "\n".join(f"[{path}]\n{one}" for path, one in receivers()[receiver].items())
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "contacts.yml").write_text(contacts)
        (folder / "data.json").write_text(json.dumps(data(alerts)))
        write_alertmanager(folder, ADDRESSES, folder / "contacts.yml")
        argv = [amtool or need("amtool"), "template", "render"]
        argv += [f"--template.glob={folder}/templates/*.tmpl", f"--template.text={text}"]
        argv += [f"--template.data={folder}/data.json"]
        done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def golden(receiver: str, amtool: str | None = None) -> str:
    """All cases of a receiver, as its golden file has them."""
    return "\n".join(
        f"=== {case}\n{rendered(receiver, alerts, amtool)}\n" for case, alerts in CASES.items()
    )


if __name__ == "__main__":
    for one in PEOPLE:
        (GOLDEN / f"{one}.txt").write_text(golden(one))
