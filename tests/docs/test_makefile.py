"""`make install` ends in a venv that works here, whatever was there before: real make, venv, pip.

The project is a stand-in without dependencies, in a folder whose name has a blank and an umlaut.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command.paths import REPOSITORY
from tests.support.waiting import until

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "llm-budget"
version = "1"
"""
# An editable install as setuptools makes it: a .pth file and the command.
BACKEND = """
import os, signal, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    if os.environ.get("HANG"):
        Path("building").touch()
        signal.pause()
    info = "llm_budget-1.dist-info/"
    files = {
        "llm_budget.pth": str(Path.cwd()),
        info + "METADATA": "Metadata-Version: 2.1\\nName: llm-budget\\nVersion: 1\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "entry_points.txt": "[console_scripts]\\nllm-budget = stand_in:main\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, info + "RECORD"])
    name = "llm_budget-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        for path, text in {**files, info + "RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
STAND_IN = """
def main():
    print(__file__.encode())
"""


def checkout(folder: Path) -> Path:
    """The Makefile and a project for it to install."""
    folder.mkdir()
    shutil.copy(REPOSITORY / "Makefile", folder)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (folder / name).write_text("# nothing\n")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "stand_in.py").write_text(STAND_IN)
    return folder


def make(folder: Path, *targets: str, **more: str) -> subprocess.Popen[str]:
    """make in a process group of its own, without the flags of a make around the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    python = Path(sys.executable).resolve()
    return subprocess.Popen(
        ["make", f"PYTHON={python}", *targets],
        cwd=folder,
        env={**environment, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def install(folder: Path, target: str = "install") -> str:
    """make's words; afterwards the command runs, and is this folder's."""
    process = make(folder, target)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 0, words
    command = subprocess.run([folder / ".venv" / "bin" / "llm-budget"], capture_output=True)
    assert command.stdout.decode().strip() == str(str(folder / "stand_in.py").encode())
    return words


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which make install has run, for all tests to copy."""
    folder = checkout(tmp_path_factory.mktemp("make") / "über den Tag")
    install(folder)
    return folder


def test_a_venv_that_is_whole_is_left_alone(installed: Path) -> None:
    assert "Nothing to be done" in install(installed)


def test_a_checkout_that_was_copied_or_moved_gets_its_own_venv(
    installed: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "ein anderer Ort"
    shutil.copytree(installed, moved, symlinks=True)
    install(moved)
    assert "Nothing to be done" in install(moved)


def python_is_gone(folder: Path) -> None:
    (folder / ".venv" / "bin" / "python").unlink()
    (folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python")


def requirements_changed(folder: Path) -> None:
    os.utime(folder / "requirements.txt")


@pytest.mark.parametrize("happens", [python_is_gone, requirements_changed])
def test_a_venv_that_is_out_of_date_is_made_anew(
    installed: Path, happens: Callable[[Path], None]
) -> None:
    happens(installed)
    left_over = installed / ".venv" / "left over"
    left_over.touch()
    install(installed)
    assert not left_over.exists()


@pytest.mark.parametrize(
    ("target", "moment"),
    [
        ("install", ".venv/pyvenv.cfg"),
        ("install", ".venv/lib/*/site-packages/pip"),
        (".venv/.dev", "building"),
    ],
)
def test_what_was_cut_short_is_made_anew(target: str, moment: str, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "unter brochen")
    with make(folder, target, HANG="yes") as process:
        until(lambda: list(folder.glob(moment)), what=moment, every=0.005)
        os.killpg(process.pid, signal.SIGKILL)
    install(folder, target)
    assert "Nothing to be done" in install(folder)
