"""`llm-budget check --send-test`: one alert for each receiver, by the Alertmanager that runs."""

import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from command.remote import call
from command.stack.reach import ways_of
from common import signals
from common.errors import UserError
from common.fetch import fetch
from common.yamlfile import parse_document

ALERT = "LLMNotificationTest"
TIMEOUT_SECONDS = 20.0  # of one receiver; Alertmanager itself gives up after ten
_REQUESTS = re.compile(
    r"^alertmanager_notification_requests(_failed)?_total\{.*?integration=\"(\w+)\".*\} (\S+)$",
    re.MULTILINE,
)
Counts = Counter[tuple[str, bool]]  # by integration and whether failed


def send_test(url: str) -> Iterator[tuple[str, bool, str]]:
    """Each receiver's name, whether its ways took the alert, and in words. Raises UserError."""
    original = call("alertmanager", url, "/api/v2/status")["config"]["original"]
    document = parse_document(original.encode(), Path("alertmanager.yml"))
    for receiver in document["receivers"]:
        name = receiver["name"]
        ways = Counter({way: len(several) for way, several in ways_of(receiver).items()})
        if f'receiver="{name}"' not in original:
            yield name, False, f'no route of {ALERT} has the matcher receiver="{name}"'
        elif not ways:
            yield name, False, "it has no way to tell anybody"
        else:
            yield name, *_sent(url, name, ways)


def _sent(url: str, name: str, ways: Counter[str]) -> tuple[bool, str]:
    before = _counts(url)
    labels = {"alertname": ALERT, "receiver": name, "run": uuid.uuid4().hex}
    said = "This is a test by llm-budget check --send-test; nothing has happened."
    notes = {"summary": said, "description": said}
    answer = fetch(f"{url}/api/v2/alerts", content=[{"labels": labels, "annotations": notes}])
    if answer.status != 200:
        raise UserError(f"the alertmanager at {url} refuses the test: status {answer.status}")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while missing := [
        way for way in ways if _counts(url)[way, False] - before[way, False] < ways[way]
    ]:
        if time.monotonic() > deadline:
            return False, f"no answer by {', '.join(missing)} in {TIMEOUT_SECONDS:.0f} s"
        signals.sleep(0.2)
    now = _counts(url)  # again: a failure is counted after its request
    failed = [way for way in ways if now[way, True] > before[way, True]]
    if failed:
        return False, f"{', '.join(failed)} failed; Alertmanager's log says why"
    return True, f"sent by {', '.join(ways)}"


def _counts(url: str) -> Counts:
    counts: Counts = Counter()
    text = fetch(f"{url}/metrics").body.decode(errors="replace")
    for failed, integration, value in _REQUESTS.findall(text):
        counts[integration, bool(failed)] += int(float(value))
    return counts
