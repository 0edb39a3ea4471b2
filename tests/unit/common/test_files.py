"""Durable files and locks."""

import os
import stat
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import FileLock, remove_leftovers, replace_file


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["config.yml"]


def test_a_failed_replacement_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["config.yml"]


def test_a_lock_is_exclusive_and_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    with (
        FileLock(path, "an exporter"),
        pytest.raises(UserError, match=r"ledger\.lock is locked: an exporter"),
    ):
        FileLock(path, "an exporter")
    FileLock(path, "an exporter").close()


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".effective.yml.abcd1234", ".effective.yml.swp", ".other.yml.abcd1234"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "effective.yml")
    assert {path.name for path in tmp_path.iterdir()} == {
        ".effective.yml.swp",
        ".other.yml.abcd1234",
    }
