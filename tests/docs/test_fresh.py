"""make test-fresh refuses in a sentence, and takes this machine's pip settings inside."""

import os
from pathlib import Path

import pytest

from tests.support import fresh
from tests.support.versions import UnavailableError


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="needs root"):
        fresh.main("trixie")


def test_it_names_the_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="apt-get install debootstrap"):
        fresh.main("trixie")


def test_local_files_of_pips_settings_are_found_and_renamed(tmp_path: Path) -> None:
    for name in ("a/simple", "a-more/simple"):
        (tmp_path / name).mkdir(parents=True)
    indexes = f"file://{tmp_path}/a/simple https://mirror/simple file://{tmp_path}/a-more/simple/"
    assert fresh._local_paths(indexes) == [f"{tmp_path}/a", f"{tmp_path}/a-more"]
    inside = f"file:///mnt{tmp_path}/a/simple https://mirror/simple "
    assert fresh._inside(indexes) == f"{inside}file:///mnt{tmp_path}/a-more/simple/"
    assert fresh._local_paths("180 /not/there") == []
