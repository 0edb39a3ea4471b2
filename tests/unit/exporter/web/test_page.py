"""The status page as people see it, in Chromium."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium_axe_python import Axe
from starlette.responses import HTMLResponse, Response

from command.stack.processes import free_port
from exporter.web import peers
from exporter.web.app import application
from exporter.web.page import render, state
from exporter.web.peers import Peers, Said, Sample
from exporter.web.status import budget_status
from tests.support.exporters import NOON, Exporter, event
from tests.support.pages import Prometheus, Site, browser, serving
from tests.support.receivers import ADMIN, Receiver, alert
from tests.support.waiting import until

CONFIG = """
budget: {timezone: Asia/Kolkata, day_starts_at: "06:00", roasters: {blue-tokai: 30, navio: 5}}
prices: {deepseek-chat: {input_usd_per_1k: 1, output_usd_per_1k: 0}}
"""
START = NOON - 11.5 * 3600  # 06:00 of the budget's day
LINKS = {"Grafana": "http://127.0.0.1:3000", "Prometheus": "http://127.0.0.1:9090"}
RATIOS = {"half": 0.5, "warning": 0.75, "critical": 0.9, "exhausted": 1}
THRESHOLDS = [
    ({"__name__": "budget:llm_threshold:ratio", "threshold": name}, ratio)
    for name, ratio in RATIOS.items()
]
DAY = ({"__name__": "budget:llm_day_start:timestamp_seconds"}, START)
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
TURNED = "navio\u202egnp.exe\u2066 \u200b\u202c"


def foretold(low: float, today: float, high: float, **out: float) -> list[Any]:
    values = {"low": low, "today": today, "high": high}
    at = "budget:llm_exhaustion:timestamp_seconds"
    return [
        DAY,
        *THRESHOLDS,
        ({}, 1),
        *(({"__name__": f"budget:llm_forecast_usd:{name}"}, usd) for name, usd in values.items()),
        *(({"__name__": at, "case": case}, when) for case, when in out.items()),
    ]


def firing(name: str, severity: str, **labels: str) -> Any:
    found = {"__name__": "ALERTS", "alertname": name, "severity": severity, **labels}
    return found | {"alertstate": "firing"}, 1


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    with browser() as running:  # whose tab counts as hidden: nothing is renewed behind a test
        how = "{value: true, configurable: true}"
        hidden = {"source": f"Object.defineProperty(document, 'hidden', {how})"}
        running.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", hidden)
        yield running


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def prometheus() -> Iterator[tuple[Prometheus, str]]:
    answers = Prometheus()
    with serving(answers.app) as running:
        yield answers, running.url


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[Receiver, str]]:
    running = Receiver(tmp_path, now=NOON)
    with serving(running.web.asgi([])) as at:
        yield running, at.url
    running.close()


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path / "exporter", CONFIG) as running:
        yield running


Open = Callable[..., webdriver.Chrome]


@pytest.fixture
def opened(
    driver: webdriver.Chrome,
    site: Site,
    prometheus: tuple[Prometheus, str],
    receiver: tuple[Receiver, str],
    exporter: Exporter,
) -> Open:
    """opened(samples, receiver=URL) -> the browser at the page, 1600 pixels wide."""

    def open_page(*samples: Any, at: str | None = None) -> webdriver.Chrome:
        prometheus[0].samples = samples or tuple(foretold(30, 40, 55))
        peers = Peers(receiver[1] if at is None else at, prometheus[1])
        site.app = application(exporter.parts, peers, LINKS)
        sized(driver, 1600)
        driver.get_log("browser")  # what was there before
        driver.get(site.url)
        return driver

    return open_page


def sized(driver: webdriver.Chrome, width: int, dark: bool = False) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def spend(exporter: Exporter, usd: int, *names: tuple[str, str]) -> None:
    """So much by now, more and more by the hour, half of it by the first name."""
    names = names or (("blue-tokai", "notes"), ("kapi-kottai", "tags"), ("naivo", "sensory"))
    parts = [hour % 5 + hour // 2 + 1 for hour in range(12)]
    for hour, part in enumerate(parts):
        for place, (roaster, field) in enumerate(names):
            tokens = 1000 * usd * part // sum(parts) // 2 ** min(place + 1, len(names) - 1) + 1
            at = START + hour * 3400 + 60
            exporter.book(event(tokens, 0, at=at, roaster=roaster, field=field))


def check(driver: webdriver.Chrome, schemes: tuple[bool, ...] = (False, True)) -> None:
    """What holds for every page: it fits, is readable in both schemes, and breaks no rule."""
    axe = Axe(driver)
    for width, dark in ((360, False), (360, True), (1600, False), (1600, True)):
        sized(driver, width, dark)
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, f"scrolls sideways at {width}: {wide}"
    for dark in schemes:
        sized(driver, 1600, dark)
        axe.inject()
        found = axe.run()["violations"]
        assert not found, json.dumps(found, indent=1)[:3000]
    assert driver.get_log("browser") == []


async def hanging(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers nothing until it is hung up on."""
    while (await receive())["type"] != "http.disconnect":
        pass


def shown_again(driver: webdriver.Chrome) -> None:
    """As when a person comes back to the tab: it is renewed at once, else every five seconds."""
    driver.execute_script("delete document.hidden")
    driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")


def shown(driver: webdriver.Chrome, selector: str) -> str:
    """In one step: the page may renew itself between finding an element and reading it."""
    script = "return document.querySelector(arguments[0]).innerText"
    lines = str(driver.execute_script(script, selector)).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def word(driver: webdriver.Chrome) -> str:
    return shown(driver, "#state")


def text(driver: webdriver.Chrome) -> str:
    return shown(driver, "main")


def test_fresh(opened: Open, exporter: Exporter) -> None:
    page = opened()
    assert word(page) == "OK"
    assert "$100.00 left of $100.00" in text(page)
    assert "Nothing yet." in text(page)
    assert "The scraper runs its normal config." in text(page)
    assert page.title == "OK: $100.00 left, LLM budget"
    assert "LLM_BUDGET_METRICS_TOKEN_FILE" in page.find_element(By.TAG_NAME, "footer").text
    links = page.find_elements(By.LINK_TEXT, "Runbook")
    assert [one.get_attribute("href") for one in links] == [page.current_url + "runbook"]
    check(page)


def test_half_spent(opened: Open, exporter: Exporter) -> None:
    spend(exporter, 56)
    page = opened(*foretold(70, 84, 96), firing("LLMBudgetHalfSpent", "info"))
    assert word(page) == "INFO"
    assert "$84.00 ($70.00 to $96.00)" in text(page)
    assert "not today" in text(page)
    check(page)


def test_warning_with_a_level_that_a_person_pinned(
    opened: Open, exporter: Exporter, receiver: tuple[Receiver, str]
) -> None:
    spend(exporter, 83)
    receiver[0].webhook(alert("emergency"))
    pin = {"mode": "pin", "level": "control", "author": "asha", "reason": HOSTILE}
    assert (
        receiver[0]
        .post("/api/v1/override", pin | {"until": "2027-01-15T16:00:00Z"}, ADMIN)
        .is_success
    )
    times = {"expected": NOON + 5.5 * 3600, "earliest": NOON + 3.5 * 3600}
    alerts = [firing("LLMBudgetHalfSpent", "info"), firing("LLMBudgetWarning", "warning")]
    page = opened(*foretold(92, 104.5, 121, **times), *alerts)
    assert word(page) == "WARNING"
    shown = text(page)
    assert "about 23:00 (21:00 at the earliest)" in shown
    assert f"Override by asha: pin control until 15 Jan 21:30, “{HOSTILE}”" in shown
    assert "batch_size 10 → 5" in shown
    assert shown.index("LLMBudgetWarning") < shown.index("LLMBudgetHalfSpent")
    check(page)


def test_exhausted(opened: Open, exporter: Exporter, receiver: tuple[Receiver, str]) -> None:
    spend(exporter, 108)
    receiver[0].webhook(alert("fallback"))
    alerts = [
        firing(name, "critical", degradation="fallback", instance=instance)
        for name, instance in (("LLMBudgetExhausted", "a"), ("LLMBudgetExhausted", "b"), ("X", "a"))
    ]
    alerts += [firing("LLMNotificationsFailing", "critical", integration="slack")]
    page = opened(*foretold(110, 118, 125, expected=NOON), *alerts)
    assert word(page) == "EXHAUSTED"
    level = shown(page, ".in-force").splitlines()
    assert level[1:5] == [
        "fallback", "Asked for by LLMBudgetExhausted, X.", "What it changed", "enabled true → false"
    ]  # fmt: skip
    assert "critical LLMNotificationsFailing · slack" in text(page)
    assert "over the limit of $100.00" in text(page)
    assert "Runs out\nit has" in text(page)
    assert "fallback" in text(page)
    check(page)


def test_what_other_ledgers_spend_is_not_left(opened: Open, exporter: Exporter) -> None:
    spend(exporter, 30)
    whole = {"utilization:ratio": 0.93, "remaining_usd:today": 7, "limit_usd:today": 100}
    said = [one for one in foretold(92, 104, 120) if one[0]] + [({}, 2)]
    page = opened(*said, *(({"__name__": f"budget:llm_{name}"}, n) for name, n in whole.items()))
    assert page.title == "CRITICAL: $7.00 left, LLM budget"
    assert "$7.00 left of $100.00\n$30.02 spent today by this ledger; in all 93.0 %" in text(page)
    assert not page.find_elements(By.CSS_SELECTOR, ".chart .forecast, .chart .band")
    check(page)


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = f"log: [{{path: {tmp_path}/misspelt.jsonl}}]"
    with Exporter(tmp_path / "exporter", config) as exporter:
        exporter.parts.logs.poll()
        page = render(exporter.parts, Said(), RATIOS, {})
        assert f"Not there (yet?):</span> <bdi>{tmp_path}/misspelt.jsonl</bdi>" in page


def test_a_ledger_that_cannot_be_written(opened: Open, exporter: Exporter) -> None:
    spend(exporter, 20)
    ledger = exporter.folder / "ledger.sqlite"
    ledger.rename(aside := ledger.with_suffix(".aside"))
    assert exporter.post([event()]).status_code == 503
    page = opened()
    assert word(page) == "CRITICAL"
    assert "nothing is being booked" in text(page)
    check(page)
    aside.rename(ledger)


def test_without_receiver_and_prometheus_the_rest_works(
    opened: Open, exporter: Exporter, site: Site, driver: webdriver.Chrome
) -> None:
    spend(exporter, 40)
    gone = f"http://user:secret@127.0.0.1:{free_port()}"
    page = opened(at=gone)
    assert word(page) == "OK"
    assert "Level in force\nunknown" in text(page)
    assert f"Receiver: {gone.replace('user:secret@', '')}/state cannot be reached" in text(page)
    check(page)
    site.app = application(exporter.parts, Peers("", gone), LINKS)
    page.get(site.url)
    assert word(page) == "UNKNOWN"
    assert "left of $100.00" in text(page)
    assert "Forecast for the day\nunknown" in text(page)
    assert "secret" not in page.page_source
    assert not page.find_elements(By.CSS_SELECTOR, ".threshold, .forecast, .band")
    check(page)


def test_a_thousand_roasters_with_hostile_names(opened: Open, exporter: Exporter) -> None:
    names = [HOSTILE, TURNED, "<b>&amp;</b>" * 10, "निवो", *(f"roaster-{n}" for n in range(996))]
    exporter.book(*(event(8000 - n, 0, roaster=name) for n, name in enumerate(names[:2])))
    exporter.book(*(event(10, 0, roaster=name) for name in names[2:]))
    page = opened(firing("Odd" + TURNED, HOSTILE, roaster=HOSTILE), *THRESHOLDS, DAY)
    assert page.title.startswith("OK")
    table = page.find_element(By.CSS_SELECTOR, "[aria-labelledby=by-roaster]")
    assert HOSTILE in table.text
    assert "navio⟨U+202E⟩gnp.exe⟨U+2066⟩ ⟨U+200B⟩⟨U+202C⟩" in table.text
    assert len([row for row in table.find_elements(By.TAG_NAME, "tr") if row.is_displayed()]) == 10
    summary = page.find_element(By.ID, "more-roaster-shown")
    assert summary.text == "and 990 more: $9.90"
    assert page.find_elements(By.CSS_SELECTOR, "main img, main script") == []
    check(page, ())  # axe takes seconds for a thousand rows that are like the first ten
    summary.click()
    assert "roaster-995" in table.text
    sized(page, 360)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360


def test_it_is_renewed_in_place_and_says_when_it_is_not(
    opened: Open, exporter: Exporter, site: Site
) -> None:
    spend(exporter, 20, *((f"r{n}", "notes") for n in range(12)))
    page = opened()
    page.find_element(By.ID, "more-roaster-shown").click()
    spend(exporter, 60)
    shown_again(page)
    until(lambda: word(page) == "WARNING", what="the page to be renewed")
    assert page.find_element(By.ID, "more-roaster").get_attribute("open")
    assert page.switch_to.active_element.get_attribute("id") == "more-roaster-shown"
    page.execute_script("getSelection().selectAllChildren(document.querySelector('footer'))")
    page.execute_script("Date.now = () => 1e15")  # a minute later it is renewed all the same
    spend(exporter, 15)
    shown_again(page)
    until(lambda: word(page) == "CRITICAL", what="the page to be renewed")
    page.execute_script("getSelection().removeAllRanges()")
    works = site.app
    for broken in (Response(status_code=503), hanging, HTMLResponse("<h1>Sign in</h1>")):
        site.app = broken
        shown_again(page)
        until(lambda: "does not answer" in shown(page, "header"), what="it to say so")
        site.app = works
        shown_again(page)
        until(lambda: "does not answer" not in shown(page, "header"), what="it to be renewed")
    page.get_log("browser")  # of the 503


def test_it_is_read_without_javascript(opened: Open, exporter: Exporter) -> None:
    spend(exporter, 56)
    page = opened()
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert word(page) == "INFO"
        assert page.find_elements(By.CSS_SELECTOR, "noscript meta, meta[http-equiv=refresh]")
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_runbook_is_a_page_like_this_one(opened: Open, exporter: Exporter) -> None:
    page = opened()
    page.find_element(By.LINK_TEXT, "Runbook").click()
    assert page.find_element(By.ID, "llmbudgetcritical").is_displayed()
    check(page)


def test_every_answer_is_guarded(exporter: Exporter, receiver: tuple[Receiver, str]) -> None:
    for http in (exporter.http, receiver[0].http):
        for path in ("/", "/runbook", "/metrics", "/health", "/nowhere", "/api/v1/status"):
            headers = http.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]


def test_the_page_is_drawn_where_nothing_is_usual(exporter: Exporter) -> None:
    """No limit left, samples that lie, a receiver of another version: never an error page."""
    lies = [DAY, *(({"__name__": f"budget:llm_forecast_usd:{one}"}, worst) for one, worst in
            (("today", "NaN"), ("low", "-Inf"), ("high", "1e300"))),
            ({"__name__": "budget:llm_exhaustion:timestamp_seconds", "case": "expected"}, "1e11"),
            ({"__name__": "budget:llm_threshold:ratio", "threshold": "half"}, "NaN")]  # fmt: skip
    said = Said()
    said.samples = [Sample(labels, (0, float(value))) for labels, value in lies]
    said.receiver = peers.Receiver(
        "?", holds=[{"until": "soon"}], override={"until": {}}, changes=[("a", {"b": 1}, None)],
        shadow=True,
    )  # fmt: skip
    assert "What it would change" in render(exporter.parts, said, {}, {})
    exporter.clock.set(START + 30 * 3600)  # the next day, before anything is booked on it
    assert "$100.00" in render(exporter.parts, said, {"half": 0.5}, {})


def test_a_running_exporter_keeps_to_its_own_template(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git pull under it would put a newer one before older code."""
    render(exporter.parts, Said(), {}, {})
    monkeypatch.setattr("jinja2.loaders.os.path.getmtime", lambda _: 0)  # it has changed
    monkeypatch.setattr("jinja2.loaders.FileSystemLoader.get_source", None)
    assert "UNKNOWN" in render(exporter.parts, Said(), {}, {})


@pytest.mark.parametrize(
    ("used", "thresholds", "expected"),
    [
        (50, RATIOS, "OK"), (51, RATIOS, "INFO"), (75, RATIOS, "INFO"), (76, RATIOS, "WARNING"),
        (90, RATIOS, "WARNING"), (91, RATIOS, "CRITICAL"), (99, RATIOS, "CRITICAL"),
        (100, RATIOS, "EXHAUSTED"), (10, {}, "UNKNOWN"), (100, {}, "EXHAUSTED"),
    ],
)  # fmt: skip
def test_the_word(
    exporter: Exporter, used: int, thresholds: dict[str, float], expected: str
) -> None:
    if used:
        exporter.book(event(used * 1000, 0))
    status = budget_status(exporter.parts)
    assert state(status, thresholds, float(status.utilization)) == expected
