"""llm-budget render: it is valid, has the given addresses, and harms nothing of yours."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from command.main import main
from command.paths import RULES
from command.stack.binaries import need

FLAGS = ("--exporter", "http://budget:8000",
         "--receiver", "https://budget.example:8443/",
         "--prometheus", "http://prom:9090", "--interval", "15s",
         "--seen-as", "/srv/llm")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert main(["render", "--to", str(tmp_path / "llm"), *FLAGS]) == 0
    return tmp_path / "llm"


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_rules_are_valid_and_every_group_has_an_interval(folder: Path) -> None:
    files = sorted((folder / "rules").iterdir())
    argv = [need("promtool"), "check", "rules", *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for file in files:
        theirs, ours = document(file)["groups"], document(RULES / file.name)["groups"]
        assert [one["rules"] for one in theirs] == [one["rules"] for one in ours]
        wanted = [one.get("interval", "15s") for one in ours]
        assert [one["interval"] for one in theirs] == wanted


def test_the_scrape_jobs_reach_the_given_addresses(folder: Path) -> None:
    jobs = document(folder / "scrape.yml")["scrape_configs"]
    said = {
        one["job_name"]: (one["scheme"], one["scrape_interval"], one["static_configs"])
        for one in jobs
    }
    assert said == {
        "llm-exporter": ("http", "15s", [{"targets": ["budget:8000"]}]),
        "llm-receiver": ("https", "15s", [{"targets": ["budget.example:8443"]}]),
    }


def test_a_config_that_includes_them_is_valid(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    own = {"rule_files": ["llm/rules/*.yml"], **document(folder / "scrape.yml")}
    config.write_text(yaml.safe_dump(own))
    subprocess.run([need("promtool"), "check", "config", str(config)], check=True)
    routing = document(folder / "alertmanager.yml")
    routing["route"]["receiver"] = "llm-watchdog"
    path = tmp_path / "alertmanager.yml"
    path.write_text(
        yaml.safe_dump({**routing, "templates": [str(folder / "templates" / "*.tmpl")]})
    )
    subprocess.run([need("amtool"), "check-config", str(path)], check=True)


def test_alertmanager_is_told_the_receiver_and_where_the_token_is_seen(folder: Path) -> None:
    routing = document(folder / "alertmanager.yml")
    assert all(route["continue"] for route in routing["route"]["routes"]), "yours come after"
    hooks = {one["name"]: one["webhook_configs"][0] for one in routing["receivers"]}
    assert {name: hook["url"] for name, hook in hooks.items()} == {
        "llm-degradation": "https://budget.example:8443/alerts",
        "llm-watchdog": "https://budget.example:8443/watchdog",
    }
    tokens = {hook["http_config"]["authorization"]["credentials_file"] for hook in hooks.values()}
    assert tokens == {"/srv/llm/secrets/webhook_token"}


def test_no_alert_of_others_is_inhibited(folder: Path) -> None:
    for rule in document(folder / "alertmanager.yml")["inhibit_rules"]:
        assert any(one.startswith('alertname="LLM') or one == 'alertname=~"LLM.*"'
                   for one in rule["target_matchers"])  # fmt: skip


def test_grafana_gets_another_data_source_beside_yours(folder: Path) -> None:
    (source,) = document(folder / "grafana" / "datasources.yml")["datasources"]
    assert (source["name"], source["url"], source["isDefault"]) == (
        "LLM budget",
        "http://prom:9090",
        False,
    )
    (provider,) = document(folder / "grafana" / "dashboards.yml")["providers"]
    assert provider["options"]["path"] == "/srv/llm/grafana/dashboards"
    names = {one.name for one in (folder / "grafana" / "dashboards").iterdir()}
    assert names == {"budget.json", "pipeline.json", "roasters.json"}


def test_tokens_are_secret_and_stay_when_rendered_again(folder: Path) -> None:
    secrets = {path: path.read_text() for path in (folder / "secrets").iterdir()}
    assert {path.name for path in secrets} == {"ingest_token", "admin_token", "webhook_token"}
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["render", "--to", str(folder), *FLAGS]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "wrong",
    [["--exporter", "budget:8000"], ["--receiver", "ftp://x"], ["--receiver", "http://x/path"],
     ["--interval", "1s"], ["--interval", "2m"], ["--interval", "soon"]],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: list[str], tmp_path: Path) -> None:
    try:
        status = main(["render", "--to", str(tmp_path / "llm"), *wrong])
    except SystemExit as usage:
        status = int(usage.code or 0)
    assert status == 2
    assert not (tmp_path / "llm").exists()


def test_without_flags_it_is_for_what_other_commands_talk_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services.yml").write_text("exporter: http://127.0.0.1:8100\n")
    monkeypatch.setenv("LLM_BUDGET_RECEIVER", "http://budget.example:8001")
    assert main(["render", "--to", str(tmp_path / "llm"), "--data", str(tmp_path)]) == 0
    jobs = document(tmp_path / "llm" / "scrape.yml")["scrape_configs"]
    targets = [one["static_configs"][0]["targets"] for one in jobs]
    assert targets == [["127.0.0.1:8100"], ["budget.example:8001"]]


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["render", "--to", str(tmp_path / "file" / "llm")]) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said
    assert os.fspath(tmp_path / "file") in said
