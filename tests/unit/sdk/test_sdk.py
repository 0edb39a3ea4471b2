"""What a scraper copies: each file in a folder of its own, with the standard library only."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FILES = ("client.py", "client_openai.py", "client_delivery.py")
# Isolated and without site-packages; a package would come from the folder or not at all.
PYTHON = [sys.executable, "-I", "-S", "-c"]
START = "import sys; sys.path.insert(0, sys.argv[1])\n"
ONLY_STANDARD_LIBRARY = """
import sys
loaded = {name.partition(".")[0] for name in sys.modules} - {"__main__", "vendored"}
foreign = loaded - set(sys.stdlib_module_names) - {"client", "client_openai", "client_delivery"}
assert not foreign, foreign
"""
RECORD_AND_OBEY = """
c = Client(sys.argv[1] + "/spool", effective=sys.argv[1] + "/effective.json")
assert c.record("r", "f", {"id": "a", "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
assert c.allowed("f")
"""
WRAP_AND_DELIVER = """
from types import SimpleNamespace as Thing
usage = {"prompt_tokens": 3, "completion_tokens": 1}
completions = Thing(create=lambda **_: {"id": "b", "usage": usage})
wrap(Thing(chat=Thing(completions=completions)), client=c).chat.completions.create(model="m")
try:
    deliver(sys.argv[1] + "/spool", "http://127.0.0.1:9", once=True)
except DeliveryError as error:
    assert "refused" in str(error)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "effective.json").write_text('{"enabled": true}')
    return tmp_path


def copy(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(ROOT / "sdk" / name, folder)


def run(folder: Path, source: str) -> str:
    """Run a program beside the files; what it wrote on stderr."""
    argv = [*PYTHON, START + source + ONLY_STANDARD_LIBRARY, str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stderr


def test_the_client_alone_records_and_obeys(folder: Path) -> None:
    copy(folder, "client.py")
    assert run(folder, "from client import Client, allowed, record\n" + RECORD_AND_OBEY) == ""
    assert '"id":"a"' in (folder / "spool").read_text()


@pytest.mark.parametrize("package", ["", "vendored."])
def test_the_three_files_work_flat_and_in_a_package(folder: Path, package: str) -> None:
    copy(folder / package.strip("."), *FILES)
    imports = (
        f"from {package}client import Client\n"
        f"from {package}client_openai import wrap\n"
        f"from {package}client_delivery import DeliveryError, deliver\n"
    )
    assert run(folder, imports + RECORD_AND_OBEY + WRAP_AND_DELIVER) == ""
    assert '"id":"b"' in (folder / "spool").read_text()


@pytest.mark.parametrize("package", ["", "vendored."])
def test_the_client_offers_what_lies_beside_it(folder: Path, package: str) -> None:
    copy(folder / package.strip("."), *FILES)
    source = (
        f"import {package}client as client, {package}client_openai, {package}client_delivery\n"
        f"from {package}client import deliver, wrap\n"
        f"assert client.wrap is wrap is {package}client_openai.wrap\n"
        f"assert client.deliver is deliver is {package}client_delivery.deliver\n"
        "assert not hasattr(client, 'nonsense')\n"
    )
    assert run(folder, source) == ""


@pytest.mark.parametrize("name", ["wrap", "deliver"])
@pytest.mark.parametrize("how", ["from client import {}", "import client; client.{}"])
def test_what_is_missing_is_said_in_a_sentence(folder: Path, name: str, how: str) -> None:
    copy(folder, "client.py")
    file = {"wrap": "client_openai.py", "deliver": "client_delivery.py"}[name]
    *_, last = run(folder, how.format(name)).splitlines()
    assert last == (
        f"ImportError: {name} is in {file} of llm-budget's sdk folder: "
        f"copy that file to {folder}, too"
    )


def test_a_client_under_another_name_is_named_as_what_is_missing(folder: Path) -> None:
    copy(folder, *FILES)
    (folder / "client.py").rename(folder / "budget.py")
    assert "No module named 'client'" in run(folder, "import budget; budget.wrap")


def test_the_former_command_names_the_new_one(folder: Path) -> None:
    copy(folder, "client.py")
    argv = [sys.executable, str(folder / "client.py"), "deliver", "--spool", "x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "python client_delivery.py --spool FILE --exporter URL" in done.stderr


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_python_3_9(name: str) -> None:
    ast.parse((ROOT / "sdk" / name).read_text(), feature_version=(3, 9))
