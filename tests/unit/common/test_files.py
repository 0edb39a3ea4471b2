"""Durable files and locks."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import FileLock, read_file, remove_leftovers, replace_file
from tests.support.odd_files import ODD, fifo


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


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_file_or_too_large_is_refused_without_waiting(
    odd: Callable[[Path], None], tmp_path: Path
) -> None:
    odd(tmp_path / "x")
    words = r"regular|larger than 1 MiB|directory|symbolic|No such device"
    with pytest.raises(OSError, match=words):
        read_file(tmp_path / "x", 1 << 20)
    assert len(os.listdir("/proc/self/fd")) < 200  # what was opened is closed again


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 1024)
    assert len(read_file(path, 1024)) == 1024
    with pytest.raises(OSError, match="larger than 0 KiB"):
        read_file(path, 1023)


def test_a_fifo_in_a_files_place_is_replaced_and_its_mode_is_not_kept(tmp_path: Path) -> None:
    fifo(tmp_path / "x")
    os.chmod(tmp_path / "x", 0o666)
    replace_file(tmp_path / "x", b"config")
    assert (tmp_path / "x").read_bytes() == b"config"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo(tmp_path / "x.lock")
    with pytest.raises(UserError, match="not a regular file"):
        FileLock(tmp_path / "x.lock", "a receiver")
