"""Each check judges one link of the loop by the answers, and says what to do about it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, Literal, NamedTuple

from command.diagnosis.answers import QUESTIONS, Answers, token_of
from command.diagnosis.promql import meaning, seconds
from command.diagnosis.routes import arrivals, holds, hooks, matchers, unmet
from command.paths import RULES
from command.stack.reach import SEVERITIES, ways_of
from common import names
from common.budget_status import BudgetStatus
from common.errors import UserError
from common.yamlfile import parse_document, read_document

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
FOLDER = "llm-budget render --to FOLDER"


class Judgement(NamedTuple):
    """status: unknown where a part gives no answer. found, do: sentences for people."""

    status: Literal["ok", "warning", "error", "unknown"]
    found: str
    do: str = ""


Check = Callable[[Answers], Judgement]
CHECKS: dict[str, Check] = {}
ok, doubt, wrong = (partial(Judgement, status) for status in ("ok", "warning", "error"))


def check(
    name: str, unanswered: Literal["error", "unknown"] = "unknown"
) -> Callable[[Check], Check]:
    """Put a check into the table. unanswered: its status when a part gives no answer."""

    def add(judge: Check) -> Check:
        @wraps(judge)
        def judged(answers: Answers) -> Judgement:
            try:
                return judge(answers)
            except UserError as error:
                do = "start it, or name its URL" if unanswered == "error" else ""
                return Judgement(unanswered, str(error), do)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                found = f"an answer cannot be read: {type(error).__name__}: {error}"
                return Judgement("error", found, "is another program, or version, listening?")

        CHECKS[name] = judged
        return judged

    return add


def some(words: list[str]) -> str:
    """The first few of many."""
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


@check("exporter", unanswered="error")
def _exporter(answers: Answers) -> Judgement:
    answer = answers.raw("status")
    if answer.status == 401:
        return wrong("it refuses our metrics token", "set LLM_BUDGET_METRICS_TOKEN_FILE")
    status = answer.decode(BudgetStatus)
    problems = [
        f"log {log.path}: {log.problem or log.state}" for log in status.logs if log.state != "ok"
    ]
    problems += filter(None, [status.config.problem])
    if not status.writable:
        return wrong("its ledger cannot be written", "see its log: disk full, read-only, replaced?")
    if problems:
        return wrong(some(problems), "correct budget.yml, or the log's path and rights")
    if status.warnings:
        return doubt(some(status.warnings), "correct budget.yml")
    return ok(f"ledger {status.ledger}, day {status.day.date}, {status.requests} calls")


@check("receiver", unanswered="error")
def _receiver(answers: Answers) -> Judgement:
    state = answers.json("state")
    if problems := [f"{name}: {text}" for name, text in state["problems"].items()]:
        failed = answers.raw("health").status >= 500
        return (wrong if failed else doubt)(some(problems), "see its log, and docs/runbook.md")
    if state["shadow"]:
        return doubt("it only logs what it would do", "start it without --shadow")
    return ok(f"level {state['level']}")


@check("prometheus", unanswered="error")
def _prometheus(answers: Answers) -> Judgement:
    answers.facts("complete")
    try:
        runtime = answers.json("runtime")["data"]
    except UserError:
        return ok("answers queries; it does not tell about itself")
    if not runtime["reloadConfigSuccess"]:
        return wrong(
            "its changed config is wrong; the old one is in force", "promtool check config"
        )
    return ok(f"up since {runtime['startTime']}")


@check("alertmanager", unanswered="error")
def _alertmanager(answers: Answers) -> Judgement:
    status = answers.json("routing")
    if "alertmanager_config_last_reload_successful 0\n" in answers.text("notified"):
        return wrong("its changed config is wrong; the old one is in force", "amtool check-config")
    return ok(f"version {status['versionInfo']['version']}")


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
        return wrong(f"Prometheus cannot scrape {some(down)}", "correct the target, or its token")
    if not samples:
        which = "".join(f" of {name} {value}" for name, value in own.items())
        return wrong(f"Prometheus has no samples{which}", f"add the scrape job: {FOLDER}")
    said = [f"job {one['labels']['job']} every {one['scrapeInterval']}" for one in mine]
    if slow := [one for one in mine if seconds(one["scrapeInterval"]) > MAX_SCRAPE_SECONDS]:
        do = f"scrape_interval: {MAX_SCRAPE_SECONDS}s at most; 5s is better"
        return wrong(f"{some(said)}: {len(slow)} too slowly for the rules", do)
    if not said:
        return doubt(
            "samples come from no target of this Prometheus", "well if another pushes them"
        )
    return ok(some(said))


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
    files = [
        read_document(RULES / name)
        for name in read_document(RULES / "prometheus.yml")["rule_files"]
    ]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule.get("record"))


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
        found = f"{len(missing)} rules are not loaded: {some(missing)}"
        return wrong(found, f"add the rule files, reload Prometheus: {FOLDER}")
    loaded = {name: [meaning(one["query"]) for one in rules] for name, rules in running.items()}
    other = {_name(one) for one in shipped() if meaning(str(one["expr"])) not in loaded[_name(one)]}
    if other:
        do = f"load these files and reload Prometheus: {FOLDER}"
        return wrong(f"{len(other)} are not as in {RULES}: {some(sorted(other))}", do)
    every = [rule for rules in running.values() for rule in rules]
    if sick := [f"{one['name']}: {one['lastError']}" for one in every if one["health"] == "err"]:
        return wrong(f"{len(sick)} cannot be evaluated: {some(sick)}", "see Prometheus' log")
    slowest = max(float(one["interval"]) for one in every)
    if slowest > MAX_SCRAPE_SECONDS:
        do = f"evaluation_interval: {MAX_SCRAPE_SECONDS}s at most; 5s is better"
        return wrong(f"evaluated every {slowest:g} s only", do)
    new = sum(one["health"] == "unknown" for one in every)
    not_yet = f", {new} of them not evaluated yet" if new else ""
    return ok(f"all {len(shipped())} of this version{not_yet}")


@check("evidence")
def _evidence(answers: Answers) -> Judgement:
    reasons = [
        f"{words} ({labels.get(names.LEDGER) or labels.get('instance') or labels.get('alert')})"
        for fact, words in UNPROVEN.items()
        for labels, _ in answers.facts(fact)
    ]
    wanted = answers.facts("wanted")
    if wanted and not reasons:
        return ok(
            f"complete; {sum(value for _, value in wanted):g} of {len(wanted)} entries wanted"
        )
    found = some(reasons) or "the rules record none: no exporter, no rules, or no utilization"
    return wrong(found, "until then nothing is lowered; bring it back, or llm-budget retire LEDGER")


@check("receiver's sources")
def _sources(answers: Answers) -> Judgement:
    state = answers.json("state")
    if away := [f"{url} {said}" for url, said in state["sources"].items() if said[:2] != "ok"]:
        return wrong(some(away), "correct --prometheus, --alertmanager, --exporter of the receiver")
    if not state["confirmed"]:
        return doubt("it asks no Prometheus before it lowers", "give the receiver --prometheus URL")
    return ok(f"{len(state['sources'])} answer the receiver")


@check("alertmanager reached")
def _reached(answers: Answers) -> Judgement:
    managers = [one["url"] for one in answers.json("managers")["data"]["activeAlertmanagers"]]
    if not managers:
        return wrong("Prometheus has no Alertmanager", "add it under alerting: in prometheus.yml")
    ours = next(rule for rule in shipped() if _name(rule) == "Watchdog")["annotations"][
        "runbook_url"
    ]
    if not any(one["annotations"].get("runbook_url") == ours for one in answers.json("watchdogs")):
        found = f"it has no Watchdog of these rules; Prometheus sends to {some(managers)}"
        return wrong(found, "see Prometheus' log; is this the Alertmanager that it sends to?")
    return ok(f"Prometheus sends to {some(managers)}")


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
        if labels.keys() & {"degradation", "tuning"}:
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
            return wrong(
                f"an inhibit rule hides alerts with {some(tests)}", 'add degradation="", tuning=""'
            )
    if muted:
        return wrong(f"{some(sorted(muted))} is muted at times", "remove the time intervals there")
    if late:
        return doubt(f"alerts wait {some(sorted(late))} there", "group_wait: 0s in that route")
    return ok(f"{len(alerts)} alerts that ask for a level or tuning end there")


def _astray(
    config: dict[str, Any], labels: dict[str, str], arrived: list[str], targets: set[str]
) -> Judgement:
    if not targets:
        return wrong("no receiver has a webhook to the degradation receiver", f"add it: {FOLDER}")
    kept_out = min(unmet(config["route"], labels, targets), key=len, default=())
    found = f"{labels['alertname']} ends at {some(arrived)}"
    if not kept_out:
        return wrong(
            found, f"move the route to {some(sorted(targets))} to the top, or continue: true above"
        )
    do = "remove the matcher (alertmanagerConfigMatcherStrategy: None), or add the label"
    return wrong(f"{found}: the route wants {some(list(kept_out))}", do)


@check("webhook heard")
def _webhook(answers: Answers) -> Judgement:
    text = answers.text("receiver_metrics")
    heard = _sum(text, names.WATCHDOG_SEEN)
    refused = _sum(text, names.DEGRADATION_NOTIFICATIONS, 'result="refused"')
    age = answers.now("receiver") - heard
    if heard and age < WATCHDOG_SECONDS:
        return ok(f"the Watchdog came {max(age, 0):.0f} s ago")
    found = f"no Watchdog for {age:.0f} s" if heard else "no Watchdog since the receiver started"
    hint = f"; {refused:g} notifications were refused" if refused else ""
    return wrong(found + hint, "look at Alertmanager's log: its route, the URL, the webhook token")


def _sum(text: str, name: str, label: str = "") -> float:
    """Of a metric's samples in a page of text, those with a label."""
    rows = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for labels, value in rows if label in labels)


@check("tokens")
def _tokens(answers: Answers) -> Judgement:
    refused, missing, right = list[str](), list[str](), list[str]()
    for question in ("ingest", "grants", "override", "webhook"):
        service, _, name, *_ = QUESTIONS[question]
        if token_of(name) is None:
            missing.append(name)
            continue
        status = answers.raw(question).status
        (refused if status in (401, 403) else right).append(f"{name} at the {service}")
    if refused:
        do = "give the service the same file: LLM_BUDGET_…_TOKEN_FILE; reload or restart it"
        return wrong(f"refused: {some(refused)}", do)
    if missing:
        do = "say LLM_BUDGET_…_TOKEN_FILE to have them tried"
        return doubt(f"not here: {some(sorted(set(missing)))}; right: {some(right) or 'none'}", do)
    return ok(f"right: {some(right)}")


@check("config is read")
def _read(answers: Answers) -> Judgement:
    at = answers.json("state")["config_read_at"]
    age = answers.now("receiver") - datetime.fromisoformat(at).timestamp() if at else None
    if age is not None and age < READ_SECONDS:
        return ok(f"GET /config came {max(age, 0):.0f} s ago")
    ago = "since the receiver started" if age is None else f"for {age / 60:.0f} min"
    return doubt(
        f"no GET /config {ago}", "no fault if the scraper reads the file; else docs/adopt.md"
    )


def _people(severity: str, answers: Answers) -> Judgement:
    config = _routing(answers)
    arrived = arrivals(config["route"], {**_external(answers), "severity": severity})
    known = {one["name"]: ways_of(one) for one in config["receivers"]}
    ways = {way: one.receiver for one in arrived for way in known[one.receiver]}
    do = "docs/notifications.md; llm-budget check --send-test tries it"
    if not ways:
        return wrong(f"nobody is told: {some([one.receiver for one in arrived])} has no way", do)
    text, said, works = answers.text("notified"), [], False
    for way, receiver in ways.items():
        counts = (f"alertmanager_notifications{kind}_total" for kind in ("", "_failed"))
        sent, failed = (_sum(text, name, f'integration="{way}"') for name in counts)
        works |= not failed or failed < sent
        said.append(f"{receiver} by {way}" + (f", {failed:g} of {sent:g} failed" if failed else ""))
    return ok(some(said)) if works else wrong(f"nobody is told: {some(said)}", do)


for _severity in SEVERITIES:
    check(f"{_severity} alerts")(partial(_people, _severity))


@check("clocks")
def _clocks(answers: Answers) -> Judgement:
    offsets = answers.offsets
    said = ", ".join(f"{name} {offset:+.0f} s" for name, offset in sorted(offsets.items()))
    if offsets and max(offsets.values()) - min(offsets.values()) > MAX_SKEW_SECONDS:
        return wrong(f"they differ, from here: {said}", "let NTP set the clocks of all machines")
    return ok(f"from here: {said}") if offsets else doubt("nobody tells the time")


@check("retention")
def _retention(answers: Answers) -> Judgement:
    said = answers.json("runtime")["data"]["storageRetention"]
    kept = [one for one in said.split(" or ") if re.fullmatch(r"[\dsmhdwy]+", one)]
    if kept and seconds(kept[0]) < seconds(RETENTION):
        return wrong(
            f"Prometheus keeps {said}", f"--storage.tsdb.retention.time={RETENTION} or more"
        )
    if "B" in said:
        return doubt(f"Prometheus keeps {said}: a size says no time", f"leave room for {RETENTION}")
    return ok(f"Prometheus keeps {said}")
