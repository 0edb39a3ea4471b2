"""docs/bring-your-own.md: its commands and blocks, as printed, in a loop of one's own."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from command.commands import parser
from command.diagnosis.checks import CHECKS
from command.main import main
from command.paths import REPOSITORY
from command.stack.binaries import need
from command.stack.bundle import Bundle
from common.yamlfile import dump
from tests.support.loop import LIMIT, Loop
from tests.support.waiting import until

PAGE = (REPOSITORY / "docs" / "bring-your-own.md").read_text()
SHIPPED = {"exporter": 8000, "receiver": 8001, "prometheus": 9090, "alertmanager": 9093}
FOLDER = "/etc/llm-budget"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands(place: "Bundle | None" = None) -> dict[str, list[str]]:
    """The page's commands by their name, with a bundle's addresses and folder."""
    text = "\n".join(blocks("sh")).replace("\\\n", "")
    if place:
        text = text.replace(FOLDER, str(place.folder / "llm"))
        for service, port in SHIPPED.items():
            text = text.replace(f"127.0.0.1:{port}", place.address(service))
    lines = [shlex.split(line) for line in text.splitlines()]
    return {words[1]: words for words in lines if words and words[0].endswith("llm-budget")}


class Adopters(Bundle):
    """A Prometheus and an Alertmanager that were there before, with the page's additions."""

    def token_file(self, name: str) -> Path:
        return self.folder / "llm" / "secrets" / f"{name}_token"

    def prepare(self) -> None:
        super().prepare()
        assert main(commands(self)["render"][1:]) == 0
        shell = "\n".join(blocks("sh")).replace(FOLDER, str(self.folder / "llm"))
        assert dict(re.findall(r"^export (\w+)=(.+)$", shell, re.MULTILINE)) == self.environment
        (self.folder / "prometheus.yml").write_bytes(self._prometheus())
        (self.folder / "alertmanager.yml").write_bytes(self._alertmanager())

    def _prometheus(self) -> bytes:
        own: dict[str, Any] = {
            "global": {"scrape_interval": "1m", "evaluation_interval": "1m"},
            "alerting": {"alertmanagers": [
                {"static_configs": [{"targets": [self.address("alertmanager")]}]}]},
            "scrape_configs": [
                {"job_name": "theirs", "static_configs": [{"targets": ["127.0.0.1:1"]}]}],
        }  # fmt: skip
        (block,) = blocks("yaml")
        own |= yaml.safe_load(block.replace(FOLDER, str(self.folder / "llm")))
        version = subprocess.run([need("promtool"), "--version"], capture_output=True, text=True)
        found = re.search(r"version (\d+)\.(\d+)", version.stdout + version.stderr)
        assert found
        if (int(found[1]), int(found[2])) < (2, 43):  # as the page says of an earlier one
            (path,) = own.pop("scrape_config_files")
            own["scrape_configs"] += yaml.safe_load(Path(path).read_text())["scrape_configs"]
        return dump(own, Path("prometheus.yml"))

    def _alertmanager(self) -> bytes:
        ours = yaml.safe_load((self.folder / "llm" / "alertmanager.yml").read_text())
        theirs = {"receiver": "team", "matchers": ['severity=~".*"']}
        own = {
            "route": {"receiver": "watchdog", "routes": [*ours["route"]["routes"], theirs]},
            "receivers": [
                {"name": "watchdog"},
                {"name": "team", "webhook_configs": [{"url": "http://127.0.0.1:1/people"}]},
                *ours["receivers"],
            ],
            "inhibit_rules": ours["inhibit_rules"],
        }
        return dump(own, Path("alertmanager.yml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_what_a_careful_root_renders_is_read_by_the_services(tmp_path: Path) -> None:
    """Under umask 077, and the token by Alertmanager's group alone."""
    argv = [sys.executable, "-m", "command.main", "render", "--to", str(tmp_path / "llm")]
    subprocess.run(argv, cwd=REPOSITORY, umask=0o077, check=True, capture_output=True)
    (give,) = (block for block in blocks("sh") if "chgrp" in block)
    give = give.replace("chgrp alertmanager", "chgrp 4711").replace(FOLDER, str(tmp_path / "llm"))
    subprocess.run(["sh", "-ec", give], check=True)

    def read(user: int, group: int, *names: str) -> int:
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        find = ["find", *names, "-type", "f", "-exec", "cat", "{}", "+"]
        return subprocess.run([*become, *find], cwd=tmp_path / "llm", stdout=-3).returncode

    public = ("rules", "scrape.yml", "alertmanager.yml", "templates", "grafana")
    assert read(4712, 4712, *public) == 0
    assert read(4712, 4711, "secrets/webhook_token") == 0
    assert read(4712, 4712, "secrets/webhook_token") != 0
    assert read(4712, 4711, "secrets/admin_token") != 0


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with Loop(tmp_path_factory.mktemp("own"), hold="600", kind=Adopters) as loop:
        yield loop


def test_the_doctor_finds_it_well(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*commands(loop.bundle)["doctor"][1:], "--json"]

    def asked() -> dict[str, str]:
        capsys.readouterr()
        main(argv)
        found = json.loads(capsys.readouterr().out)
        return {one["check"]: f"{one['status']}: {one['found']}" for one in found}

    def all_links() -> bool:
        # People's webhook is nowhere, so that alerts to it fail; tokens are this test's.
        others = {name for name in CHECKS if not name.endswith(" alerts") and name != "tokens"}
        return all(said.startswith("ok") for name, said in asked().items() if name in others)

    loop.get("receiver", "/config")  # as a scraper does
    until(all_links, what="every link")
    assert asked()["exporter scraped"] == "ok: job llm-exporter every 5s"


def test_a_crossing_reaches_the_config_and_their_own_watchdog_goes_on(loop: Loop) -> None:
    loop.spend_to(LIMIT * 8 // 10)
    loop.wait_level("control")
    watchdog = loop.get("alertmanager", '/api/v2/alerts?filter=alertname="Watchdog"')[0]
    assert {one["name"] for one in watchdog["receivers"]} == {"llm-watchdog", "team"}


def test_the_services_commands_parse() -> None:
    for block in blocks("sh"):
        for line in block.replace("\\\n", "").splitlines():
            words = shlex.split(line)
            if words[0].endswith("llm-budget"):
                parser().parse_args(words[1:])
            elif words[1:2] == ["-m"]:
                argv = [sys.executable, *words[1:3], "--help"]
                known = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
                assert all(word in known for word in words if word.startswith("--")), line


def test_its_table_is_every_check() -> None:
    said = PAGE.partition("| check |")[2]
    missing = [name for name in CHECKS if name.removesuffix(" alerts") not in said]
    assert not missing
