"""docs/bring-your-own.md: the loop with a Prometheus and an Alertmanager of somebody's own."""

import re
from pathlib import Path
from typing import Any

import yaml

from command.main import main
from command.paths import REPOSITORY
from command.stack import configs
from command.stack.bundle import Bundle
from tests.support.loop import LIMIT, Loop

PAGE = (REPOSITORY / "docs" / "bring-your-own.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^llm-budget (.+)$", PAGE, re.MULTILINE)


class OwnBundle(Bundle):
    """As the page prints it, at this machine's addresses; 2.42 takes the jobs without a file."""

    def prepare(self) -> None:
        super().prepare()
        folder = self.folder / "render"
        words = COMMANDS[0].replace("/etc/llm-budget/render", str(folder)).split()
        for service, port in (("exporter", 8000), ("receiver", 8001)):
            address = self.address(service)
            words[words.index(f"budget.example.net:{port}")] = address
        assert main([*words, "--webhook-token-file", str(self.token_file("webhook"))]) == 0
        prometheus, messages = (
            yaml.safe_load(block.replace("/etc/llm-budget/render", str(folder))) for block in BLOCKS
        )
        configs.write(self.folder / "prometheus.yml", self._own(prometheus))
        ours = yaml.safe_load((folder / "alertmanager" / "routes.yml").read_text())
        document = {
            **messages,
            "route": {"receiver": "budget-chat", "routes": ours["routes"]},
            "receivers": messages["receivers"] + ours["receivers"],
        }
        configs.write(self.folder / "alertmanager.yml", document)

    def _own(self, prometheus: dict[str, Any]) -> dict[str, Any]:
        (scrapes,) = prometheus.pop("scrape_config_files")
        jobs = yaml.safe_load(Path(scrapes).read_text())["scrape_configs"]
        own = [
            {"job_name": f"our-{name}", "static_configs": [{"targets": [self.address(name)]}]}
            for name in ("prometheus", "alertmanager")
        ]
        targets = [{"static_configs": [{"targets": [self.address("alertmanager")]}]}]
        return {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            **prometheus,
            "scrape_configs": [*jobs, *own],
            "alerting": {"alertmanagers": targets},
        }


def test_levels_rise_and_fall_with_the_rendered_files(tmp_path: Path) -> None:
    with Loop(tmp_path, kind=OwnBundle) as loop:
        assert not loop.unwell()
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        loop.spend_to(LIMIT)
        loop.wait_level("fallback")
        loop.grant("9")
        loop.wait_level("none", timeout=60)
