"""docs/notifications.md: its configs are accepted, beside what ships."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from command.paths import ALERTMANAGER
from command.stack.binaries import need
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "notifications.md").read_text()
BLOCKS = [
    "\n".join(line[4:] for line in block.splitlines())
    for block in re.findall(r"(?:^    .*\n)+", TEXT, re.MULTILINE)
    if re.match(r"    (?:global:|- name)", block)
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_a_config_of_the_page_is_accepted(block: str, tmp_path: Path) -> None:
    document = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    added = yaml.safe_load(block)
    if isinstance(added, dict):
        document["global"].update(added["global"])
    else:
        others = [one for one in document["receivers"] if one["name"] != added[0]["name"]]
        document["receivers"] = [*others, *added]
    document["templates"] = []
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(document))
    argv = [need("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_three_configs_and_names_the_files_of_secrets_that_ship() -> None:
    assert len(BLOCKS) == 3
    shipped = (ALERTMANAGER / "alertmanager.yml").read_text()
    for name in re.findall(r"_file: secrets/(?!webhook_token)(\w+)", shipped):
        assert f"`data/secrets/{name}`" in TEXT
