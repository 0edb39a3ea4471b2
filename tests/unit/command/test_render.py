"""llm-budget render: what an Alertmanager and a Prometheus of somebody's own include."""

import subprocess
from pathlib import Path

import pytest
import yaml

from command.main import main
from command.stack.binaries import need
from tests.support.rule_files import rule_files

WHERE = ("--exporter", "b.example:8100", "--receiver", "b.example:8101")


def rendered(folder: Path, *flags: str) -> Path:
    assert main(["render", "--to", str(folder), *WHERE, *flags]) == 0
    return folder


def test_rules_and_jobs_are_valid_and_at_their_addresses(tmp_path: Path) -> None:
    folder = rendered(tmp_path / "to", "--metrics-token-file", "/etc/prometheus/token")
    rules = sorted(folder.glob("prometheus/rules/*.yml"))
    assert {one.name for one in rules} == {one.name for one in rule_files()}
    document = yaml.safe_load((folder / "prometheus" / "scrape.yml").read_text())
    targets = [job["static_configs"][0]["targets"] for job in document["scrape_configs"]]
    assert targets == [["b.example:8100"], ["b.example:8101"]]
    exporter = document["scrape_configs"][0]
    assert exporter["authorization"] == {"credentials_file": "/etc/prometheus/token"}
    del exporter["authorization"]  # promtool would look for the file
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump(document | {"rule_files": [str(one) for one in rules]}))
    subprocess.run([need("promtool"), "check", "config", config], check=True, capture_output=True)


def test_the_routes_fit_into_an_alertmanager_whose_own_routes_see_the_alerts(
    tmp_path: Path,
) -> None:
    folder = rendered(tmp_path / "to", "--webhook-token-file", "/run/token")
    ours = yaml.safe_load((folder / "alertmanager" / "routes.yml").read_text())
    config = tmp_path / "alertmanager.yml"
    own = {"receiver": "own", "routes": [*ours["routes"], {"receiver": "own"}]}
    config.write_text(
        yaml.safe_dump(
            {
                "route": own,
                "receivers": [{"name": "own"}, *ours["receivers"]],
                "templates": [f"{folder}/alertmanager/templates/*.tmpl"],
            }
        )
    )
    subprocess.run([need("amtool"), "check-config", config], check=True, capture_output=True)
    for labels, receivers in (
        ("alertname=LLMBudgetExhausted degradation=fallback", "degradation,own"),
        ("alertname=LLMRoasterCapReached tuning=roaster_stop", "degradation,own"),
        ("alertname=Watchdog", "watchdog,own"),
        ("alertname=LLMRequestCostHigh severity=warning", "own"),
    ):
        argv = [need("amtool"), "config", "routes", "test", f"--config.file={config}"]
        done = subprocess.run([*argv, *labels.split()], capture_output=True, text=True)
        assert done.stdout.strip() == receivers
    text = (folder / "alertmanager" / "routes.yml").read_text()
    assert text.count("credentials_file: /run/token") == 2


def test_rendered_again_it_forgets_rules_that_are_no_longer_shipped(tmp_path: Path) -> None:
    rendered(tmp_path)
    old = tmp_path / "prometheus" / "rules" / "gone.yml"
    old.write_text("groups: []\n")
    (tmp_path / "prometheus" / "mine.yml").touch()
    rendered(tmp_path)
    assert not old.exists()
    assert (tmp_path / "prometheus" / "mine.yml").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--exporter", "http://b.example:8000"], "is not HOST:PORT"),
        (["--receiver", "b.example"], "is not HOST:PORT"),
        (["--to", "/proc/nowhere"], "cannot write"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "--to", str(tmp_path), *WHERE, *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
