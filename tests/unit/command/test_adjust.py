"""llm-budget grant, reset and revoke: through the exporter, or with it down through its ledger;
and what they say of the level.
"""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from alertmanager.receiver.evidence.observations import (
    ExporterAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from command.main import main
from command.remote import UnreachableError
from common.fetch import Answer
from common.signals import Interrupted
from tests.support.budget_statuses import figures
from tests.support.exporters import (
    ADMIN,
    INGEST,
    NOON,
    Exporter,
    event,
    exporter_process,
    url,
    write_config,
)
from tests.support.paths import ROOT
from tests.support.receivers import Receiver, alert

AWAY, RECEIVER = "http://127.0.0.1:1", "http://127.0.0.1:2"  # nothing listens there
LEVELS = frozenset({"conserve", "control", "emergency", "fallback"})
ENTRIES = LEVELS | {"roaster_stop/naivo"}


def command(folder: Path, *arguments: str) -> int:
    """The command with the exporter down; the ledger is the folder's."""
    config = write_config(folder)
    ledger = folder / "ledger.sqlite"
    where = ["--exporter", AWAY, "--receiver", RECEIVER]
    files = ["--config", str(config), "--ledger", str(ledger)]
    return main([*arguments, "--reason", "launch day", *where, *files])


def test_with_the_exporter_down_the_ledger_takes_the_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Exporter(tmp_path).close()
    assert command(tmp_path, "grant", "12.50", "--author", "asha", "--id", "once") == 0
    said = capsys.readouterr()
    assert f"The exporter is down: using the ledger {tmp_path / 'ledger.sqlite'} (" in said.err
    assert "Its number is 1." in said.out
    assert "The limit is not known: cannot reach the exporter" in said.out
    assert "The level is not known: cannot reach the receiver" in said.out
    assert command(tmp_path, "grant", "12.50", "--author", "asha", "--id", "once") == 0
    assert "the id once was booked before, as 1." in capsys.readouterr().out
    assert command(tmp_path, "reset", "--wait", "--timeout", "nan") == 1, "nobody is there"
    assert "Wrote off $0" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        rows = db.execute("SELECT kind, picodollars, author FROM adjustments").fetchall()
    assert rows == [("grant", 12_500_000_000_000, "asha")]


def test_neither_exporter_nor_ledger_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "reset") == 2
    error = capsys.readouterr().err
    assert f"cannot reach the exporter at {AWAY}/api/v1/resets" in error
    assert f"no ledger at {tmp_path / 'ledger.sqlite'}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "ledger.sqlite").exists()


def test_no_ledger_is_guessed_while_the_exporter_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may run at another address: the money would be granted to nobody."""
    (tmp_path / "ledger").mkdir()
    Exporter(tmp_path / "ledger").close()
    where = ["--exporter", AWAY, "--data", str(tmp_path), "--reason", "launch day"]
    assert main(["grant", "5", *where]) == 2
    error = capsys.readouterr().err
    assert f"(that of `llm-budget up` is {tmp_path}/ledger/ledger.sqlite)" in error
    assert "--ledger FILE" in error
    with sqlite3.connect(tmp_path / "ledger" / "ledger.sqlite") as db:
        assert db.execute("SELECT count(*) FROM adjustments").fetchone() == (0,)


def test_a_ledger_in_use_is_not_written_behind_its_exporters_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Exporter(tmp_path) as running:
        assert command(tmp_path, "grant", "5") == 2
        assert "an exporter already uses it" in capsys.readouterr().err
        assert running.status()["granted_usd"] == "0"


def test_a_revoke_is_written_into_the_ledger_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Exporter(tmp_path).close()
    assert command(tmp_path, "grant", "5") == 0
    assert command(tmp_path, "revoke", "1") == 0
    assert "\nRevoked 1, a grant of $5.00 for " in capsys.readouterr().out
    assert command(tmp_path, "revoke", "1") == 2
    assert "1 was revoked before, by 2" in capsys.readouterr().err
    for number, words in (("7", "7 is no grant"), ("-1", "-1 is no grant")):
        assert command(tmp_path, "revoke", number) == 2
        assert words in capsys.readouterr().err
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        rows = db.execute("SELECT kind, revokes FROM adjustments").fetchall()
    assert rows == [("grant", None), ("revoke", 1)]


def test_what_needs_a_yes_or_a_cap_is_refused_offline_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Exporter(tmp_path).close()
    assert command(tmp_path, "grant", "1001") == 2
    assert "say --yes" in capsys.readouterr().err
    assert command(tmp_path, "grant", "5", "--roaster", "naivo") == 2
    assert "no cap in budget.yml" in capsys.readouterr().err
    assert command(tmp_path, "grant", "1001", "--yes") == 0
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        assert db.execute("SELECT count(*) FROM adjustments").fetchone() == (1,)


class Services:
    """An exporter and a receiver behind their addresses; what the rules know of the ledger."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.exporter = Exporter(folder / "exporter", config, tokens=True)
        (folder / "receiver").mkdir()
        self.receiver = Receiver(folder / "receiver", now=NOON)
        self.ledger = self.exporter.ledger.books.ledger_id
        self.away: tuple[str, ...] = ()  # ledgers that the day's spend has and nobody scrapes
        self.asked: list[Any] = []
        self.on_sleep = self.round

    def fetch(self, url: str, *, content: Any = None, token: str = "", **_: Any) -> Answer:
        http = (self.exporter if url.startswith(f"{AWAY}/") else self.receiver).http
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        path = url.removeprefix(AWAY).removeprefix(RECEIVER)
        if content is not None:
            self.asked.append(content)
        answer = http.request("POST" if content else "GET", path, headers=headers, json=content)
        return Answer(url, answer.status_code, answer.content)

    def round(self, *wanted: str, epoch: int | None = None) -> None:
        """The receiver asks everybody; the rules know of the newest grant, or of that epoch."""
        self.receiver.clock.advance(2)
        now, own = self.receiver.clock.now(), self.exporter.status()["epoch"]
        day, live = self.exporter.status()["day"]["start"], frozenset({self.ledger})
        ruler = Ruler(
            1, day_start=day, live=live, spent=live.union(self.away), epochs_at=now,
            epochs={self.ledger: own if epoch is None else epoch},
        )  # fmt: skip
        rules = PrometheusAnswer(
            "p", frozenset(), now, {}, ENTRIES - set(wanted), frozenset(wanted), ruler
        )
        one = ExporterAnswer("e", day, figures("1"), ledger=self.ledger, epoch=own)
        self.receiver.observe(Observations((), (rules,), (one,)))

    def say(self, *words: str) -> int:
        where = ("--exporter", AWAY, "--receiver", RECEIVER)
        return main([*words, "--reason", "launch day", "--author", "asha", *where])


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    running = Services(tmp_path, "budget: {roasters: {naivo: 2}}")
    monkeypatch.setattr("command.remote.fetch", running.fetch)
    monkeypatch.setattr("common.signals.sleep", lambda _: running.on_sleep())
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
    yield running
    running.receiver.close()
    running.exporter.close()


def test_the_command_asks_a_running_exporter_and_repeats_its_refusal(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert services.say("grant", "12.50") == 0
    assert capsys.readouterr().out == (
        "Granted $12.50 for 2027-01-15. Its number is 1.\n"
        "By this exporter's books today's limit is $112.50; $112.50 of it is left.\n"
        "In force: none. The alerts ask for: none.\n"
    )
    assert Decimal(services.asked[0]["amount_usd"]) == Decimal("12.5")
    assert services.asked[0]["author"] == "asha"
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", INGEST)
    assert services.say("grant", "12.50") == 2
    assert "refused with 401" in capsys.readouterr().err
    assert services.exporter.status()["granted_usd"] == "12.5"


def test_a_roasters_grant_shows_its_own_cap(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    assert services.say("grant", "1.5", "--roaster", "naivo") == 0
    assert capsys.readouterr().out.startswith(
        "Granted $1.50 for 2027-01-15 to naivo alone. Its number is 1.\n"
        "By this exporter's books naivo's cap of today is $3.50; $3.50 of it is left.\n"
    )


def test_an_overspent_day_is_told_so_and_the_level_to_come_with_it(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("grant", "100")
    dear = event(10_000_000)  # $2.70
    token = {"Authorization": f"Bearer {INGEST}"}
    services.exporter.post([{**dear, "id": str(number)} for number in range(50)], **token)
    capsys.readouterr()
    assert services.say("revoke", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Revoked 1, a grant of $100.00 for 2027-01-15."
    assert "today's limit is $100.00; it is overspent by $35.01." in lines[1]
    assert lines[2] == (
        "In force: none. The alerts ask for: none. "
        "To come, by this exporter's books: fallback, at the next scrape and evaluation."
    )


def held_at_fallback(services: Services) -> None:
    """The level is high, and the alerts have just ended: it waits for its hold."""
    services.round()
    services.receiver.webhook(alert("fallback", start=NOON))
    services.receiver.webhook(alert("fallback", "resolved", start=NOON, end=NOON + 1))
    services.round()


def test_a_grant_tells_the_hold_from_what_the_alerts_ask_for(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    held_at_fallback(services)
    assert services.say("grant", "5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == (
        "In force: fallback. The alerts ask for: none. "
        "fallback is held until 2027-01-15T12:10:04Z: clear; the hold ends in 600 s. "
        "To come, by this exporter's books: none, at the next scrape and evaluation."
    )
    services.receiver.webhook(alert("control", start=NOON + 2))  # say, LLMUnpricedModel
    assert services.say("grant", "5") == 0
    assert capsys.readouterr().out.endswith(
        "To come, by this exporter's books: none, at the next scrape and evaluation "
        "unless an alert asks for more that is not about today's money.\n"
    )


def test_a_grant_while_a_ledger_is_away_cannot_let_go_and_names_what_can(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    held_at_fallback(services)
    services.away = ("bb",)
    services.round()
    assert services.say("grant", "5", "--wait", "--timeout", "0.001") == 1
    out = capsys.readouterr().out
    assert "\nNot within 0.001 s: In force: fallback." in out
    assert "books: none, but not before this ends: Ledger bb is away. " in out
    assert "`llm-budget pin none --until +2h --reason WHY` does not wait." in out


def test_a_wait_ends_when_the_rules_know_of_the_grant_and_not_before(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    held_at_fallback(services)
    rounds = iter(
        [
            lambda: services.round(*LEVELS, epoch=0),  # of before the grant: what was wanted is
            lambda: services.round(epoch=0),
            lambda: services.round("conserve"),
        ]
    )
    services.on_sleep = lambda: next(rounds)()
    assert services.say("grant", "5", "--wait") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "In force: conserve. The alerts ask for: conserve."
    assert next(rounds, None) is None


def test_a_wait_for_a_roasters_own_money_ends_when_its_stop_does(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.round()
    stop = {"tuning": "roaster_stop", "scope": "naivo", "roaster": "naivo"}
    services.receiver.webhook(alert(start=NOON, **stop))
    services.receiver.webhook(alert("", "resolved", start=NOON, end=NOON + 1, **stop))
    services.round("roaster_stop/naivo", epoch=0)
    rounds = iter([lambda: services.round("roaster_stop/naivo", epoch=0), services.round])
    services.on_sleep = lambda: next(rounds)()
    assert services.say("grant", "5", "--roaster", "naivo", "--wait") == 0
    assert capsys.readouterr().out.endswith(" In force for naivo: nothing.\n")
    assert next(rounds, None) is None
    services.on_sleep = services.round
    assert services.say("revoke", "1", "--wait") == 0
    assert services.receiver.http.get("/state").json()["tunings"] == []


@pytest.mark.parametrize(
    ("mode", "timed"), [("pin", {"until": "2027-01-15T18:00:00Z"}), ("degrade", {})]
)
def test_what_a_person_says_is_not_promised_to_end_by_a_grant(
    services: Services, capsys: pytest.CaptureFixture[str], mode: str, timed: dict[str, str]
) -> None:
    services.round()
    asked = {"mode": mode, "level": "control", "author": "ravi", "reason": "r", **timed}
    assert services.receiver.post("/api/v1/override", asked, ADMIN).status_code == 200
    assert services.say("grant", "5") == 0
    assert capsys.readouterr().out.endswith(
        " To come, by this exporter's books: none, once what ravi says has ended "
        "(`llm-budget release`).\n"
    )


def test_a_wait_is_cut_by_a_signal_and_the_grant_stays(services: Services) -> None:
    held_at_fallback(services)

    def interrupt() -> None:
        raise Interrupted(signal.SIGINT)

    services.on_sleep = interrupt
    with pytest.raises(Interrupted):
        services.say("grant", "5", "--wait")
    assert services.exporter.status()["granted_usd"] == "5"


def test_ctrl_c_ends_the_waiting_of_a_real_process_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
    with exporter_process(tmp_path) as child:
        where = ("--exporter", url(child, ""), "--receiver", RECEIVER)
        argv = [
            sys.executable,
            "-m",
            "command.main",
            "grant",
            "5",
            "--wait",
            "--reason",
            "r",
            *where,
        ]
        with subprocess.Popen(argv, stdout=PIPE, stderr=PIPE, text=True, cwd=ROOT) as waiting:
            assert waiting.stdout
            assert waiting.stdout.readline().startswith("Granted $5.00 for ")
            waiting.send_signal(signal.SIGINT)
            _, error = waiting.communicate(timeout=60)
    assert (waiting.returncode, "Traceback" in error) == (130, False), error


def test_a_receiver_of_another_version_is_named_and_fails_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alertmanager.receiver.app.report", lambda _: {"level": "none"})
    assert services.say("reset") == 0
    assert f"The level is not known: {RECEIVER} is no receiver of" in capsys.readouterr().out


def test_a_wrong_amount_never_leaves_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "grant", "lots") == 2
    assert command(tmp_path, "grant", "-5") == 2
    assert "above 0" in capsys.readouterr().err


def test_an_uncertain_grant_names_the_id_to_try_again_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def timeout(*_: Any, **__: Any) -> Any:
        raise UnreachableError("cannot reach the exporter (no answer in time); is it running?")

    monkeypatch.setattr("command.remote.call", timeout)
    with Exporter(tmp_path):
        assert command(tmp_path, "grant", "5", "--id", "once") == 2
    assert "try again with --id once" in capsys.readouterr().err
