"""Processes or compose: which one runs, why, and that a data folder stays with one of them."""

import subprocess
from pathlib import Path

import pytest

from command.main import main
from command.paths import LEDGER
from command.stack.way import choose, note
from common.errors import UserError


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker in PATH that answers what its file says."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\nexit 0\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent))
    return docker


def test_an_engine_that_answers_is_used_and_said(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose("auto", tmp_path / "data", special=False) == "compose"
    assert "Running with compose (a Docker engine answers)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "`docker info` cannot run: docker is not installed"),
        (
            "#!/bin/sh\necho permission denied >&2; exit 1\n",
            "`docker info` fails: permission denied",
        ),
        ("#!/bin/sh\n[ $1 = info ]\n", "`docker compose version` fails"),
    ],
)
def test_without_one_it_says_why(
    script: str | None,
    words: str,
    engine: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine.write_text(script) if script else engine.unlink()
    assert choose("auto", tmp_path / "data", special=False) == "processes"
    assert words in capsys.readouterr().out


def test_flags_that_compose_does_not_know_are_for_processes(engine: Path, tmp_path: Path) -> None:
    assert choose("auto", tmp_path / "data", special=True) == "processes"


@pytest.mark.usefixtures("engine")
def test_a_folder_that_was_used_one_way_is_not_used_the_other(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert choose("compose", data, special=False) == "compose"
    assert choose("processes", data, special=False) == "processes", "neither has begun a ledger"
    note("compose", data)
    with pytest.raises(UserError, match=r"used with compose.*Say --way compose"):
        choose("processes", data, special=False)
    assert choose("auto", data, special=False) == "compose"
    old = tmp_path / "old"  # of an earlier version, which left no note
    (old / LEDGER).parent.mkdir(parents=True)
    (old / LEDGER).touch()
    with pytest.raises(UserError, match="used with processes"):
        choose("auto", old, special=False)
    assert choose("processes", old, special=False) == "processes"


def test_what_an_earlier_version_left_tells_the_way_too(engine: Path, tmp_path: Path) -> None:
    engine.unlink()
    (tmp_path / "compose").mkdir()
    with pytest.raises(UserError, match=r"volume `ledger`.*docker is not installed"):
        choose("auto", tmp_path, special=False)
    ledger = tmp_path / LEDGER
    ledger.parent.mkdir()
    ledger.touch()
    with pytest.raises(UserError, match="Say --way compose"):
        choose("auto", tmp_path, special=False)
    with pytest.raises(UserError, match=r"needs a Docker engine.*docker is not installed"):
        choose("compose", tmp_path, special=False)
    engine.write_text("#!/bin/sh\n")
    engine.chmod(0o755)
    assert choose("compose", tmp_path, special=False) == "compose", "it was used both ways"


@pytest.mark.usefixtures("engine")
def test_the_sentence_says_how_to_change_the_way_for_good(tmp_path: Path) -> None:
    data = tmp_path / "a folder"
    data.mkdir()
    note("compose", data)
    with pytest.raises(UserError) as refused:
        choose("processes", data, special=False)
    command = str(refused.value).partition("for good with: ")[2]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert choose("processes", data, special=False) == "processes"


@pytest.mark.usefixtures("engine")
def test_compose_refuses_flags_that_it_would_not_follow(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave these flags out"):
        choose("compose", tmp_path / "data", special=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("engine")
def test_up_refuses_before_anything_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "way").write_text("compose\n")
    assert main(["up", "--data", str(tmp_path)]) == 2
    assert "and begin another" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"way", "bin"}


@pytest.mark.parametrize("way", ["processes", "compose"])
def test_what_did_not_come_up_leaves_no_note(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tried once without an engine, or on a taken port, it would be kept from the other way."""
    monkeypatch.setattr("command.up.DATA", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLM_BUDGET_TOOLS", raising=False)
    assert main(["up", "--way", way, "--data", str(tmp_path)]) == 2
    assert "is not installed" in capsys.readouterr().err
    assert not (tmp_path / "way").exists()
    assert not (tmp_path / "compose").exists()
