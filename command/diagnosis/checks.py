"""Each check judges one link of the loop by the answers, and says what to do about it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from command.diagnosis.answers import QUESTIONS, Answers
from command.diagnosis.promql import meaning, seconds
from command.diagnosis.routes import arrivals, holds, hooks, matchers, unmet
from command.paths import RULES
from command.stack.reach import SEVERITIES, ways_of
from common import names
from common.budget_status import BudgetStatus
from common.errors import UserError
from common.yamlfile import parse_document, read_as, read_document

MAX_SCRAPE_SECONDS = 60  # rules/prometheus.yml: the rules are made for 5 to 60 s
MAX_SKEW_SECONDS = 5.0  # the receiver believes nothing that is further ahead
RETENTION = "10d"  # rules/prometheus.yml: a week's trends, and what a day's rules look back
LATE_SECONDS = 5.0  # of group_wait, after which a level comes late
WATCHDOG_SECONDS = 600.0  # two of its repeat_interval
READ_SECONDS = 900.0  # since the config was asked for
SHOWN = 5  # names in a sentence
# What keeps evidence from being complete, by fact.
UNPROVEN = {
    "stale": "a ledger is not scraped freshly",
    "down": "an exporter is down",
    "unwritable": "a ledger cannot be written",
    "unknown": "an alert's condition is unknown",
}


class Judgement(NamedTuple):
    """status: unknown where a part gives no answer. found, do: sentences for people."""

    status: Literal["ok", "warning", "error", "unknown"]
    found: str
    do: str


Check = Callable[[Answers], Judgement]
CHECKS: dict[str, Check] = {}
SENTENCES = read_as(Path(__file__).with_name("sentences.yml"), dict[str, Judgement])


def say(key: str, *values: Any) -> Judgement:
    """A sentence of sentences.yml; of a list of words the first few."""
    status, found, do = SENTENCES[key]
    return Judgement(
        status, found.format(*(_some(v) if isinstance(v, list) else v for v in values)), do
    )


def _some(words: list[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def check(name: str, unanswered: str = "unknown") -> Callable[[Check], None]:
    """Put a check into the table. unanswered: the sentence when a part gives no answer."""

    def add(judge: Check) -> None:
        def judged(answers: Answers) -> Judgement:
            try:
                return judge(answers)
            except UserError as error:
                return say(unanswered, error)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                return say("unreadable", type(error).__name__, error)

        CHECKS[name] = judged

    return add


@check("exporter", unanswered="away")
def _exporter(answers: Answers) -> Judgement:
    answer = answers.raw("status")
    if answer.status == 401:
        return say("exporter_token")
    status = answer.decode(BudgetStatus)
    logs = [
        f"log {log.path}: {log.problem or log.state}" for log in status.logs if log.state != "ok"
    ]
    if not status.writable:
        return say("exporter_unwritable")
    if problems := [*logs, *filter(None, [status.config.problem])]:
        return say("exporter_problems", problems)
    if status.warnings:
        return say("exporter_warnings", status.warnings)
    return say("exporter", status.ledger, status.day.date, status.requests)


@check("receiver", unanswered="away")
def _receiver(answers: Answers) -> Judgement:
    state = answers.json("state")
    if problems := [f"{name}: {text}" for name, text in state["problems"].items()]:
        failed = answers.raw("health").status >= 500
        return say("receiver_failed" if failed else "receiver_problems", problems)
    return say("receiver_shadow") if state["shadow"] else say("receiver", state["level"])


@check("prometheus", unanswered="away")
def _prometheus(answers: Answers) -> Judgement:
    answers.facts("complete")
    try:
        runtime = answers.json("runtime")["data"]
    except UserError:
        return say("prometheus_silent")
    good = runtime["reloadConfigSuccess"]
    return say("prometheus", runtime["startTime"]) if good else say("prometheus_config")


@check("alertmanager", unanswered="away")
def _alertmanager(answers: Answers) -> Judgement:
    version = answers.json("routing")["versionInfo"]["version"]
    wrong = "alertmanager_config_last_reload_successful 0\n" in answers.text("notified")
    return say("alertmanager_config") if wrong else say("alertmanager", version)


def _scraped(answers: Answers, fact: str, job: str, own: dict[str, str]) -> Judgement:
    """own: labels that the samples must have, so that they are those of the part asked here."""
    targets = answers.json("targets")["data"]["activeTargets"]
    samples = [
        labels
        for labels, age in answers.facts(fact)
        if age < MAX_SCRAPE_SECONDS + LATE_SECONDS and own.items() <= labels.items()
    ]
    mine = [
        one for one in targets if any(one["labels"].items() <= labels.items() for labels in samples)
    ]
    named = mine or [one for one in targets if job in one["labels"]["job"]]
    down = [f"{one['scrapeUrl']}: {one['lastError']}" for one in named if one["health"] == "down"]
    if down:
        return say("scrape_fails", down)
    if not samples:
        return say("scrape_missing", "".join(f" of {name} {value}" for name, value in own.items()))
    said = [f"job {one['labels']['job']} every {one['scrapeInterval']}" for one in mine]
    if slow := [one for one in mine if seconds(one["scrapeInterval"]) > MAX_SCRAPE_SECONDS]:
        return say("scrape_slow", said, len(slow))
    return say("scraped", said) if said else say("scrape_pushed")


@check("exporter scraped")
def _exporter_scraped(answers: Answers) -> Judgement:
    own = {names.LEDGER: answers.json("status")["ledger"]}
    return _scraped(answers, "ledgers", names.JOB_EXPORTER, own)


@check("receiver scraped")
def _receiver_scraped(answers: Answers) -> Judgement:
    return _scraped(answers, "receivers", "llm-receiver", {})


@cache
def shipped() -> list[dict[str, Any]]:
    """Every rule of this checkout."""
    files = (
        read_document(RULES / name)
        for name in read_document(RULES / "prometheus.yml")["rule_files"]
    )
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule.get("record"))


def _same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Labels that their group adds are theirs."""
    return (
        meaning(str(ours["expr"])) == meaning(theirs["query"])
        and (ours.get("labels") or {}).items() <= (theirs.get("labels") or {}).items()
        and seconds(ours.get("for", "0s")) == (theirs.get("duration") or 0)
    )


def _running(answers: Answers) -> dict[str, list[dict[str, Any]]]:
    """The rules that Prometheus has of this checkout's names, each with its group's interval."""
    found, known = defaultdict(list), {_name(rule) for rule in shipped()}
    for group in answers.json("rules")["data"]["groups"]:
        for rule in group["rules"]:
            if rule["name"] in known:
                found[rule["name"]].append({**rule, "interval": group["interval"]})
    return found


@check("rules")
def _rules(answers: Answers) -> Judgement:
    running = _running(answers)
    if missing := sorted({_name(rule) for rule in shipped()} - running.keys()):
        return say("rules_missing", len(missing), missing)
    other = {
        _name(one) for one in shipped() if not any(_same(one, it) for it in running[_name(one)])
    }
    if other:
        return say("rules_other", len(other), sorted(other), RULES)
    every = [rule for rules in running.values() for rule in rules]
    if sick := [f"{one['name']}: {one['lastError']}" for one in every if one["health"] == "err"]:
        return say("rules_fail", len(sick), sick)
    wanted = running[names.DEGRADATION_WANTED]  # other groups may be slow on purpose
    slowest = max(float(one["interval"]) for one in wanted)
    if slowest > MAX_SCRAPE_SECONDS:
        return say("rules_slow", slowest)
    new = sum(one["health"] == "unknown" for one in every)
    return say("rules", len(shipped()), f", {new} of them not evaluated yet" if new else "")


@check("evidence")
def _evidence(answers: Answers) -> Judgement:
    reasons = [
        f"{words} ({labels.get(names.LEDGER) or labels.get('instance') or labels.get('alert')})"
        for fact, words in UNPROVEN.items()
        for labels, _ in answers.facts(fact)
    ]
    wanted = [value for _, value in answers.facts("wanted")]
    if wanted and not reasons:
        return say("evidence", sum(wanted), len(wanted))
    none = "the rules record none: no exporter, no rules, or no utilization"
    return say("evidence_missing", reasons or none)


@check("receiver's sources")
def _sources(answers: Answers) -> Judgement:
    state = answers.json("state")
    if away := [f"{url} {said}" for url, said in state["sources"].items() if said[:2] != "ok"]:
        return say("sources_away", away)
    return (
        say("sources", len(state["sources"])) if state["confirmed"] else say("sources_unconfirmed")
    )


@check("alertmanager reached")
def _reached(answers: Answers) -> Judgement:
    managers = [one["url"] for one in answers.json("managers")["data"]["activeAlertmanagers"]]
    if not managers:
        return say("reached_none")
    notes = next(rule["annotations"] for rule in shipped() if _name(rule) == "Watchdog")
    theirs = [one["annotations"].get("runbook_url") for one in answers.json("watchdogs")]
    return say("reached" if notes["runbook_url"] in theirs else "reached_other", managers)


def _routing(answers: Answers) -> dict[str, Any]:
    original = answers.json("routing")["config"]["original"]
    return dict(parse_document(original.encode(), Path("alertmanager.yml")))


def _external(answers: Answers) -> dict[str, str]:
    """The labels that Prometheus adds to each alert that it sends."""
    try:
        text = answers.json("config")["data"]["yaml"]
    except UserError:  # others than Prometheus do not tell
        return {}
    config = parse_document(text.encode(), Path("prometheus.yml"))
    return {k: str(v) for k, v in (config["global"].get("external_labels") or {}).items()}


def _ladder(answers: Answers) -> Iterator[dict[str, str]]:
    """The labels of each alert that asks for a level or a tuning, as Prometheus has them."""
    try:
        rules = [rule for several in _running(answers).values() for rule in several]
    except UserError:
        rules = []
    external = _external(answers)
    for rule in rules or shipped():
        labels = rule.get("labels") or {}
        alerts = "alert" in rule or rule.get("type") == "alerting"  # records are sent to nobody
        if alerts and labels.keys() & {"degradation", "tuning"}:
            yield {**external, **labels, "alertname": rule.get("name") or _name(rule)}


@check("route to the receiver")
def _route(answers: Answers) -> Judgement:
    config, alerts = _routing(answers), list(_ladder(answers))
    targets, late, muted = hooks(config), set(), set()
    for labels in alerts:
        arrived = arrivals(config["route"], labels)
        if not (mine := [one for one in arrived if one.receiver in targets]):
            return _astray(config, labels, [one.receiver for one in arrived], targets)
        best = min(mine, key=lambda one: (one.muted, seconds(one.wait)))
        late |= {best.wait} if seconds(best.wait) > LATE_SECONDS else set()
        muted |= {best.receiver} if best.muted else set()
    for rule in config.get("inhibit_rules") or []:
        tests = matchers(rule, "target_")
        if any(all(holds(one, labels) for one in tests) for labels in alerts):
            return say("route_inhibited", tests)
    if muted or late:
        return say("route_muted", sorted(muted)) if muted else say("route_late", sorted(late))
    return say("route", len(alerts))


def _astray(
    config: dict[str, Any], labels: dict[str, str], arrived: list[str], targets: set[str]
) -> Judgement:
    if not targets:
        return say("route_none")
    kept_out = min(unmet(config["route"], labels, targets), key=len, default=())
    found = labels["alertname"], arrived, list(kept_out)
    return say("route_matcher" if kept_out else "route_taken", *found)


@check("webhook heard")
def _webhook(answers: Answers) -> Judgement:
    text = answers.text("receiver_metrics")
    heard = _sum(text, names.WATCHDOG_SEEN)
    refused = _sum(text, names.DEGRADATION_NOTIFICATIONS, 'result="refused"')
    age = max(0.0, answers.now("receiver") - heard)
    if heard and age < WATCHDOG_SECONDS:
        return say("webhook", age)
    found = f"no Watchdog for {age:.0f} s" if heard else "no Watchdog since the receiver started"
    return say(
        "webhook_silent", found, f"; {refused:g} notifications were refused" if refused else ""
    )


def _sum(text: str, name: str, label: str = "") -> float:
    """Of a metric's samples in a page of text, those with a label."""
    rows = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for labels, value in rows if label in labels)


@check("tokens")
def _tokens(answers: Answers) -> Judgement:
    refused, missing, right = list[str](), list[str](), list[str]()
    for question in ("ingest", "grants", "override", "webhook"):
        service, _, name, *_ = QUESTIONS[question]
        if answers.token_of(name, answers.urls[service]) is None:
            missing.append(name)
            continue
        status = answers.raw(question).status
        (refused if status in (401, 403) else right).append(f"{name} at the {service}")
    if refused:
        return say("tokens_refused", refused)
    if missing:
        return say("tokens_missing", sorted(set(missing)), right or "none")
    return say("tokens", right)


@check("config is read")
def _read(answers: Answers) -> Judgement:
    at = answers.json("state")["config_read_at"]
    if at is None:
        return say("read_not", "since the receiver started")
    age = max(0.0, answers.now("receiver") - datetime.fromisoformat(at).timestamp())
    return say("read", age) if age < READ_SECONDS else say("read_not", f"for {age / 60:.0f} min")


def _people(severity: str, answers: Answers) -> Judgement:
    """By the way of an alert of that severity that asks for no level: such as is for people."""
    config = _routing(answers)
    labels = next(
        {"alertname": one["alert"], **one["labels"]}
        for one in shipped()
        if "alert" in one
        and one["labels"].get("severity") == severity
        and not one["labels"].keys() & {"degradation", "tuning"}
    )
    told = arrivals(config["route"], {**_external(answers), **labels})
    arrived = [one for one in told if one.receiver not in hooks(config)]
    known = {one["name"]: ways_of(one) for one in config["receivers"]}
    ways = {way: one.receiver for one in arrived for way in known[one.receiver]}
    if not ways:
        return say("people_no_way", [one.receiver for one in told])
    text, said, arrive = answers.text("notified"), [], set()
    for way, receiver in ways.items():
        counts = (f"alertmanager_notifications{kind}_total" for kind in ("", "_failed"))
        sent, failed = (_sum(text, name, f'integration="{way}"') for name in counts)
        shared = way == "webhook" and sent  # the degradation receiver's are counted with these
        arrive.add(None if shared or not sent else failed < sent)  # None: not known
        tried = f", {failed:g} of {sent:g} failed" * bool(failed) if sent else ", not tried yet"
        tried += ", those to the degradation receiver included" * bool(shared)
        said.append(f"{receiver} by {way}{tried}")
    if True in arrive:
        return say("people", said)
    return say("people_untried" if None in arrive else "people_fail", said)


for _severity in SEVERITIES:
    check(f"{_severity} alerts")(partial(_people, _severity))


@check("clocks")
def _clocks(answers: Answers) -> Judgement:
    told = answers.offsets
    said = [f"{name} {round(offset):+d} s" for name, offset in sorted(told.items())]
    if not told:
        return say("clocks_silent")
    skew = max(told.values()) - min(told.values())
    return say("clocks_differ" if skew > MAX_SKEW_SECONDS else "clocks", said)


@check("retention")
def _retention(answers: Answers) -> Judgement:
    said = answers.json("runtime")["data"]["storageRetention"]
    kept = [one for one in said.split(" or ") if re.fullmatch(r"[\dsmhdwy]+", one)]
    if kept and seconds(kept[0]) < seconds(RETENTION):
        return say("retention_short", said)
    return say("retention_size" if "B" in said else "retention", said)
