"""Each check on a live loop: all well, then each part taken away or broken; and odd answers."""

import copy
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from command.diagnosis import answers as answers_module
from command.diagnosis import checks as checks_module
from command.diagnosis.answers import QUESTIONS, Answers
from command.diagnosis.checks import CHECKS, SENTENCES, Judgement
from command.main import main
from command.remote import token_of
from command.stack.bundle import Bundle
from common.fetch import Answer
from common.yamlfile import dump
from tests.support.loop import Loop
from tests.support.waiting import until

PEOPLE = {"critical alerts", "warning alerts", "info alerts"}
PARTS = ("exporter", "receiver", "prometheus", "alertmanager")
TOKENS = ("ingest", "admin", "webhook")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with Loop(tmp_path_factory.mktemp("loop")) as loop:
        assert CHECKS["config is read"](ask(loop)).status == "warning", "up is no scraper"
        requests.get(f"{loop.bundle.url('receiver')}/config", timeout=10)
        loop.spend_to(10**11)
        until(lambda: heard(loop), what="the Watchdog at the receiver")
        yield loop


@pytest.fixture(autouse=True)
def tokens(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKENS:
        monkeypatch.setenv(
            f"LLM_BUDGET_{name.upper()}_TOKEN_FILE", str(loop.bundle.token_file(name))
        )


def heard(loop: Loop) -> bool:
    page = requests.get(f"{loop.bundle.url('receiver')}/metrics", timeout=10).text
    return "llm_degradation_watchdog_timestamp_seconds 0.0" not in page


def ask(loop: Loop) -> Answers:
    nothing = loop.bundle.folder / "nothing"  # so that tokens are the environment's
    return Answers({part: loop.bundle.url(part) for part in PARTS}, partial(token_of, data=nothing))


def judged(loop: Loop) -> dict[str, Judgement]:
    answers = ask(loop)
    return {name: check(answers) for name, check in CHECKS.items()}


def until_judged(loop: Loop, check: str, words: str) -> Judgement:
    """Wait for an error with these words."""

    def seen() -> Judgement | None:
        found = CHECKS[check](ask(loop))
        return found if found.status == "error" and words in found.found else None

    found = until(seen, what=f"{check}: {words}")
    assert found is not None
    assert found.do, "it says what to do"
    return found


def until_well(loop: Loop) -> None:
    wrong: dict[str, Judgement] = {}

    def well() -> bool:
        wrong.clear()
        wrong.update({name: one for name, one in judged(loop).items() if one.status != "ok"})
        for name in PEOPLE:  # nobody was to be told anything yet
            assert wrong.pop(name).found.endswith("not tried yet")
        return not wrong

    try:
        until(well)
    except AssertionError:
        pytest.fail(f"still not ok: {wrong}")


@contextmanager
def configured(bundle: Bundle, service: str, change: Callable[[Any], None]) -> Iterator[None]:
    """Prometheus or Alertmanager with a changed config, until the end of the block."""
    path = bundle.folder / f"{service}.yml"
    before = path.read_bytes()
    document = yaml.safe_load(before)
    change(document)
    pid = getattr(bundle, service).pid
    path.write_bytes(dump(document, path))
    os.kill(pid, signal.SIGHUP)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.kill(pid, signal.SIGHUP)


def test_all_is_well_and_nothing_was_changed(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    until_well(loop)
    page = requests.get(f"{loop.bundle.url('exporter')}/metrics", timeout=10).text
    urls = [word for part in PARTS for word in (f"--{part}", loop.bundle.url(part))]
    before = loop.audit(), loop.status()["spend_usd"]
    assert main(["doctor", "--json", *urls]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in found] == list(CHECKS)
    doubted = {one["check"] for one in found if one["status"] != "ok"}
    assert doubted == PEOPLE, found
    assert (loop.audit(), loop.status()["spend_usd"]) == before
    rejects = [line for line in page.splitlines() if line.startswith("llm_ingest_rejected_total")]
    after = requests.get(f"{loop.bundle.url('exporter')}/metrics", timeout=10).text
    assert all(line in after for line in rejects), "its questions count as no one's mistakes"


def namespaced(document: Any) -> None:
    """As prometheus-operator makes of an AlertmanagerConfig: its routes under a matcher."""
    mine = [one for one in document["route"]["routes"] if one["receiver"] == "degradation"]
    rest = [one for one in document["route"]["routes"] if one not in mine]
    own = {
        "receiver": "degradation",
        "matchers": ['namespace="llm"'],
        "continue": True,
        "routes": mine,
    }
    document["route"]["routes"] = [own, *rest]


def swallowed(document: Any) -> None:
    everything = {"receiver": "mail", "matchers": ['severity=~".+"']}
    document["route"]["routes"].insert(0, everything)


def unhooked(document: Any) -> None:
    del document["receivers"][0]["webhook_configs"]


def hidden(document: Any) -> None:
    document["inhibit_rules"].append(
        {"source_matchers": ['alertname="A"'], "target_matchers": ['severity="warning"']}
    )


def told_nobody(document: Any) -> None:
    document["receivers"] += [{"name": "void"}]
    document["route"]["routes"].insert(
        0, {"receiver": "void", "matchers": ['severity="critical"', 'degradation=""']}
    )


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (namespaced, "route to the receiver", 'the route wants namespace="llm"'),
        (swallowed, "route to the receiver", "ends at mail"),
        (unhooked, "route to the receiver", "no receiver has a webhook"),
        (hidden, "route to the receiver", "an inhibit rule hides"),
        (told_nobody, "critical alerts", "nobody is told: void has no way"),
    ],
)
def test_alertmanager_configured_wrongly(
    loop: Loop, change: Callable[[Any], None], check: str, words: str
) -> None:
    with configured(loop.bundle, "alertmanager", change):
        until_judged(loop, check, words)


def test_an_exporter_that_is_gone_is_named_with_what_hangs_on_it(loop: Loop) -> None:
    loop.bundle.exporter.stop()
    try:
        found = judged(loop)
        assert found["exporter"].status == "error"
        assert found["exporter"].do == "start it, or name its URL"
        assert {found[one].status for one in PARTS[1:]} == {"ok"}
        assert found["exporter scraped"].status == "unknown"
        until_judged(loop, "evidence", "an exporter is down (127.0.0.1:")
        until_judged(loop, "receiver's sources", "cannot be reached")
    finally:
        loop.bundle.exporter.start()
        loop.bundle.exporter.wait_ready()
    until_well(loop)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_hangs_holds_nobody_for_long(
    loop: Loop, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "TIMEOUT_SECONDS", 0.7)
    pid = getattr(loop.bundle, part).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = judged(loop)
        assert time.monotonic() - began < 5
        assert found[part].status == "error"
        assert "no answer in time" in found[part].found
        assert {found[one].status for one in PARTS if one != part} == {"ok"}
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_wrong_token_is_named(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLM_BUDGET_WEBHOOK_TOKEN", "another-token-0123456789")
    monkeypatch.delenv("LLM_BUDGET_WEBHOOK_TOKEN_FILE")
    found = judged(loop)
    assert found["tokens"].found == "refused: webhook at the receiver"
    monkeypatch.setenv("LLM_BUDGET_WEBHOOK_TOKEN", "short")
    assert "at least 16" in judged(loop)["tokens"].found
    monkeypatch.delenv("LLM_BUDGET_WEBHOOK_TOKEN")
    assert judged(loop)["tokens"].status == "warning", "unknown is no fault"


def test_it_tells_nobody_a_token(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in ([], ["--json"]):
        main(["doctor", *flags, *(w for p in PARTS for w in (f"--{p}", loop.bundle.url(p)))])
    text = "".join(capsys.readouterr())
    assert not [name for name in TOKENS if loop.bundle.token(name) in text]


@cache
def live(loop: Loop) -> Answers:
    """The answers of one moment, for tests that alter a copy."""
    return ask(loop)


def altered(loop: Loop, question: str, change: Callable[[Any], Any], status: int = 200) -> Answers:
    """The live answers, one of them changed."""
    answers = copy.copy(live(loop))
    document = json.loads(answers.raw(question).body)
    replaced = change(document)
    body = json.dumps(document if replaced is None else replaced).encode()
    answers._found = {**answers._found, question: Answer("http://x", status, body)}
    return answers


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


RUNTIME = ("runtime", "data", "storageRetention")
RELOADED = ("runtime", "data", "reloadConfigSuccess")
READ = ("state", "config_read_at")
TARGETS = ("targets", "data", "activeTargets")
SOURCES = {"http://a": "unknown: no"}
NOTES = ("watchdogs", 0, "annotations")
ODD = [
    ("retention", ("error", "keeps 1d2h"), RUNTIME, "1d2h"),
    ("retention", ("error", "keeps 9d or 5GiB"), RUNTIME, "9d or 5GiB"),
    ("retention", ("warning", "keeps 5GiB"), RUNTIME, "5GiB"),
    ("retention", ("ok", "keeps 10d"), RUNTIME, "10d"),
    ("prometheus", ("error", "old one is in force"), RELOADED, False),
    ("exporter", ("error", "cannot be written"), ("status", "writable"), False),
    ("exporter", ("warning", "hm"), ("status", "warnings"), ["hm"]),
    ("exporter", ("error", "line 3"), ("status", "config", "problem"), "line 3"),
    ("exporter", ("error", "wrong answer"), ("status", "spend_usd"), "many"),
    ("receiver", ("warning", "write: disk full"), ("state", "problems"), {"write": "disk full"}),
    ("receiver", ("warning", "only logs"), ("state", "shadow"), True),
    ("receiver", ("error", "cannot be read: AttributeError"), ("state", "problems"), None),
    ("receiver's sources", ("warning", "asks no Prometheus"), ("state", "confirmed"), False),
    ("receiver's sources", ("error", "http://a unknown: no"), ("state", "sources"), SOURCES),
    ("config is read", ("warning", "since the receiver started"), READ, None),
    ("config is read", ("warning", "min"), READ, "2026-01-01T00:00:00Z"),
    ("alertmanager reached", ("error", "no Watchdog of these rules"), NOTES, {}),
    ("evidence", ("error", "rules record none"), ("facts", "data", "result"), []),
    ("receiver scraped", ("error", "no samples"), ("facts", "data", "result"), []),
    ("receiver scraped", ("warning", "no target of this"), TARGETS, []),
    ("rules", ("error", "are not loaded"), ("rules", "data", "groups"), []),
]  # fmt: skip


@pytest.mark.parametrize(("check", "expected", "path", "value"), ODD)
def test_an_answer_that_says_something_else(
    loop: Loop, check: str, expected: tuple[str, str], path: tuple[Any, ...], value: Any
) -> None:
    found = CHECKS[check](altered(loop, path[0], put(*path[1:], value=value)))
    assert found.status == expected[0], found
    assert expected[1] in found.found
    assert found.do or found.status == "ok"


@pytest.mark.parametrize("body", [None, ["x"], {"data": None}, {"data": {}}])
def test_what_answers_something_else_breaks_no_check(loop: Loop, body: Any) -> None:
    """Another program on the port, whatever it says: no traceback, and no ok by accident."""
    live = ask(loop)
    for question in QUESTIONS:
        answers = copy.copy(live)
        odd = Answer("http://x", 200, json.dumps(body).encode())
        answers._found = {**live._found, question: odd}
        for name, check in CHECKS.items():
            assert isinstance(check(answers), Judgement), name


def test_a_ledger_that_is_no_longer_scraped(loop: Loop) -> None:
    """Its last sample is there for five minutes after its job was removed."""
    answers = altered(loop, "targets", put("data", "activeTargets", value=[]))
    facts = answers.json("facts")
    for one in facts["data"]["result"]:
        one["value"][1] = "70"
    answers._found["facts"] = Answer("http://x", 200, json.dumps(facts).encode())
    found = CHECKS["exporter scraped"](answers)
    assert found.status == "error"
    assert "has no samples of ledger" in found.found


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"query": "vector(0.8)"}, "error", "1 are not as in"),
        ({"duration": 120}, "error", "1 are not as in"),
        ({"labels": {"severity": "info"}}, "error", "1 are not as in"),
        ({"labels": {"severity": "critical", "team": "theirs"}}, "ok", ""),
        ({"health": "err", "lastError": "many-to-many"}, "error", "cannot be evaluated: LLMRec"),
    ],
)
def test_a_rule_of_another_version_and_one_that_fails(
    loop: Loop, changes: dict[str, Any], status: str, words: str
) -> None:
    def change(document: Any) -> None:
        groups = document["data"]["groups"]
        rules = [one for group in groups for one in group["rules"]]
        next(one for one in rules if one["name"] == "LLMReceiverStuck").update(changes)

    found = CHECKS["rules"](altered(loop, "rules", change))
    assert found.status == status
    assert words in found.found
    assert ("LLMReceiverStuck" in found.found) is (status == "error")


@pytest.mark.parametrize(
    ("route", "status", "words"),
    [
        ({"group_wait": "30s"}, "warning", "alerts wait 30s there"),
        ({"group_wait": "0s", "mute_time_intervals": ["night"]}, "error", "is muted at times"),
        ({"group_wait": "0s", "active_time_intervals": ["day"]}, "error", "is muted at times"),
    ],
)
def test_a_route_that_is_late_or_muted(
    loop: Loop, route: dict[str, Any], status: str, words: str
) -> None:
    config = yaml.safe_load(ask(loop).json("routing")["config"]["original"])
    tree = {"receiver": "mail", "routes": [{"receiver": "degradation", **route}]}
    text = yaml.safe_dump({**config, "route": tree})
    found = CHECKS["route to the receiver"](
        altered(loop, "routing", put("config", "original", value=text))
    )
    assert found.status == status
    assert words in found.found


def test_what_the_receiver_itself_calls_failed_is_an_error(loop: Loop) -> None:
    answers = altered(loop, "state", put("problems", value={"write": "disk full"}))
    answers._found["health"] = Answer("http://x", 503, b"{}")
    assert CHECKS["receiver"](answers).status == "error"


def test_a_watchdog_that_is_old_or_never_came(loop: Loop) -> None:
    answers = ask(loop)
    page = 'llm_degradation_notifications_total{{result="refused"}} 3.0\n{} {}\n'
    for heard_at, words in ((0.0, "no Watchdog since"), (1e9, "no Watchdog for")):
        text = page.format("llm_degradation_watchdog_timestamp_seconds", heard_at)
        answers._found["receiver_metrics"] = Answer("http://x", 200, text.encode())
        found = CHECKS["webhook heard"](answers)
        assert found.status == "error"
        assert found.found.startswith(words)
        assert found.found.endswith("; 3 notifications were refused")


def test_a_part_that_says_no_is_no_crash(loop: Loop) -> None:
    answers = ask(loop)
    answers._found = {one: Answer("http://x", 500, b"<html>") for one in QUESTIONS}
    found = {name: check(answers) for name, check in CHECKS.items()}
    assert {found[part].status for part in PARTS} == {"error"}
    answers._found["status"] = Answer("http://x", 401, b"{}")
    assert "LLM_BUDGET_METRICS_TOKEN_FILE" in CHECKS["exporter"](answers).do


def test_clocks_that_differ_are_named(loop: Loop) -> None:
    answers = ask(loop)
    answers.offsets["prometheus"] += 9
    assert "prometheus +9 s" in CHECKS["clocks"](answers).found
    assert CHECKS["clocks"](answers).status == "error"
    answers.offsets["prometheus"] = -0.3
    assert "prometheus +0 s" in CHECKS["clocks"](answers).found
    answers.offsets.clear()
    assert CHECKS["clocks"](answers).status == "unknown"


def test_a_way_by_which_nothing_arrives_tells_nobody(loop: Loop) -> None:
    page = 'alertmanager_notifications{}_total{{integration="pagerduty"}} {}\n'
    answers = ask(loop)
    text = page.format("", 3) + page.format("_failed", 3)
    answers._found["notified"] = Answer("http://x", 200, text.encode())
    assert (
        CHECKS["critical alerts"](answers).found
        == "nobody is told: page by pagerduty, 3 of 3 failed"
    )
    text = page.format("", 3) + page.format("_failed", 2)
    answers._found["notified"] = Answer("http://x", 200, text.encode())
    assert CHECKS["critical alerts"](answers).status == "ok"


def test_a_webhook_to_people_is_not_taken_for_that_of_the_degradation_receiver(loop: Loop) -> None:
    """Alertmanager counts by the kind of the way, and the Watchdog arrives."""
    config = yaml.safe_load(ask(loop).json("routing")["config"]["original"])
    page = next(one for one in config["receivers"] if one["name"] == "page")
    page["webhook_configs"] = [{"url": "http://127.0.0.1:9/"}]
    del page["pagerduty_configs"]
    answers = altered(loop, "routing", put("config", "original", value=yaml.safe_dump(config)))
    found = CHECKS["critical alerts"](answers)
    assert (found.status, "receiver included" in found.found) == ("warning", True), found


def test_a_route_for_alerts_by_name_is_a_way(loop: Loop) -> None:
    """The rules that record for the ladder carry its labels, and are sent to nobody."""
    config = yaml.safe_load(ask(loop).json("routing")["config"]["original"])
    routes = config["route"]["routes"]
    for route in routes:
        if route["receiver"] == "degradation":
            route["matchers"].append('alertname=~"LLM.+"')
    others = ['alertname=~"LLM.+"', 'degradation=""', 'tuning=""']
    routes.insert(0, {"receiver": "mail", "matchers": others})
    answers = altered(loop, "routing", put("config", "original", value=yaml.safe_dump(config)))
    assert CHECKS["route to the receiver"](answers).status == "ok"
    assert "mail by email" in CHECKS["critical alerts"](answers).found


def test_labels_that_prometheus_adds_count(loop: Loop) -> None:
    config = yaml.safe_load(ask(loop).json("routing")["config"]["original"])
    namespaced(config)
    answers = altered(loop, "routing", put("config", "original", value=yaml.safe_dump(config)))
    assert CHECKS["route to the receiver"](answers).status == "error"
    text = "global:\n  external_labels: {namespace: llm}\n"
    body = json.dumps({"data": {"yaml": text}}).encode()
    answers._found["config"] = Answer("http://x", 200, body)
    assert CHECKS["route to the receiver"](answers).status == "ok"


def test_with_all_parts_away_it_ends_with_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    urls = [word for part in PARTS for word in (f"--{part}", "http://127.0.0.1:1")]
    assert main(["doctor", *urls]) == 1
    assert capsys.readouterr().out.count("connection refused") >= len(PARTS)
    with pytest.raises(SystemExit) as usage:
        main(["doctor", "--nothing"])
    assert usage.value.code == 2
    assert main(["doctor", "--exporter", "127.0.0.1:8000"]) == 2
    assert "is not a URL like http://127.0.0.1:8000" in capsys.readouterr().err


def test_the_environment_says_where_the_parts_are(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in PARTS:
        monkeypatch.setenv(f"LLM_BUDGET_{part.upper()}", loop.bundle.url(part))
    main(["doctor", "--json", "--receiver", "http://127.0.0.1:1"])
    found = {one["check"]: one["status"] for one in json.loads(capsys.readouterr().out)}
    assert [found[part] for part in PARTS] == ["ok", "error", "ok", "ok"]


def neglected(document: Any) -> None:
    jobs = {one["job_name"]: one for one in document["scrape_configs"]}
    jobs["llm-exporter"]["scrape_interval"] = "2m"
    jobs["llm-receiver"]["metrics_path"] = "/alerts"
    document["rule_files"] = [one for one in document["rule_files"] if "effect" not in one]
    del document["alerting"]


def test_prometheus_configured_wrongly(loop: Loop) -> None:
    """The last: it takes Prometheus seconds to find its targets again."""
    with configured(loop.bundle, "prometheus", neglected):
        until_judged(loop, "exporter scraped", "every 2m: 1 too slowly")
        until_judged(loop, "receiver scraped", "/alerts: server returned HTTP status 405")
        until_judged(loop, "rules", "rules are not loaded: LLMDegradationIneffective")
        until_judged(loop, "alertmanager reached", "Prometheus has no Alertmanager")


def test_every_sentence_is_said_and_says_what_to_do() -> None:
    source = Path(checks_module.__file__).read_text()
    said = set(re.findall(r'"(\w+)"', source))
    assert not SENTENCES.keys() - said, "nobody says these"
    keys = set(re.findall(r'say\("(\w+)"', source))
    assert len(keys) > 30
    assert not keys - SENTENCES.keys(), "these are not written"
    for key, (status, found, do) in SENTENCES.items():
        assert found
        assert do or status in ("ok", "unknown"), key


def test_the_degradation_receiver_is_not_people(loop: Loop) -> None:
    config = yaml.safe_load(ask(loop).json("routing")["config"]["original"])
    text = yaml.safe_dump({**config, "route": {"receiver": "degradation"}})
    answers = altered(loop, "routing", put("config", "original", value=text))
    assert CHECKS["critical alerts"](answers).found == "nobody is told: degradation has no way"
