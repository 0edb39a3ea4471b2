"""docs/adopt.md: every block of Python and shell in it runs as printed, from first to last."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from command.paths import BASELINE, BUDGET, REPOSITORY
from command.stack.processes import Child, free_port
from common.yamlfile import dump, read_document
from exporter.config import load_config
from tests.support.spools import Reader

PAGE = (REPOSITORY / "docs" / "adopt.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A folder to work in, a provider, an exporter: the environment of the page's reader."""
    ports = [free_port(), free_port()]
    provider, exporter = (f"http://127.0.0.1:{port}" for port in ports)
    listen = [f"127.0.0.1:{port}" for port in ports]
    argv = [
        ["demo.provider", "--listen", listen[0]],
        ["exporter", "--config", str(BUDGET), "--listen", listen[1]],
    ]
    argv[1] += ["--ledger", str(tmp_path / "ledger.sqlite")]
    children = [
        Child(args[0], [sys.executable, "-m", *args], tmp_path / args[0], f"{url}/health")
        for url, args in zip((provider, exporter), argv, strict=True)
    ]
    effective = tmp_path / "effective.yml"
    document = read_document(BASELINE)
    document["field_configs"]["notes"]["enabled"] = False
    effective.write_bytes(dump(document, effective))
    try:
        for child in children:
            child.start()
        for child in children:
            child.wait_ready()
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LLM_BUDGET": str(REPOSITORY),
            "LLM_BUDGET_SPOOL": str(tmp_path / "spool"),
            "LLM_BUDGET_EFFECTIVE": str(effective),
            "LLM_BUDGET_EXPORTER": exporter,
            "OPENAI_BASE_URL": provider,
            "OPENAI_API_KEY": "simulated",
        }
    finally:
        for child in children:
            child.stop()


def test_the_page_works_as_printed(host: dict[str, str], tmp_path: Path) -> None:
    *copies, deliver = (["sh", "-ec", block] for block in blocks("bash"))
    python = ["python", "-c", "\n".join(blocks("python")).encode()]
    for argv in (*copies, python, deliver):
        done = subprocess.run(
            argv, cwd=tmp_path, env=host, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    events = Reader(tmp_path / "spool").read(retire=False).events.values()
    assert [(event["outcome"], event["field"]) for event in events] == [
        ("success", "weight"),
        ("fallback", "notes"),
        ("success", "notes"),
        ("success", "notes"),
    ]


def test_the_page_names_every_variable_that_the_client_reads() -> None:
    source = "".join(path.read_text() for path in (REPOSITORY / "sdk").glob("*.py"))
    assert set(re.findall(r"LLM_BUDGET_[A-Z_]*[A-Z]", source)) <= set(
        re.findall(r"LLM_BUDGET_[A-Z_]*[A-Z]", PAGE)
    )


def test_the_keys_of_budget_yml_exist(tmp_path: Path) -> None:
    for text in blocks("yaml"):
        (tmp_path / "budget.yml").write_text(text)
        assert list(yaml.safe_load(text)) == ["log"]
        load_config(tmp_path / "budget.yml")
