"""What is missing is installed with apt-get where that is allowed, and does not take our ports."""

import os
from pathlib import Path

import pytest

from command.stack import binaries
from common.errors import UserError

INSTALLS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of root's with systemd and nothing installed; told.log is what was run on it."""
    script(tmp_path / "env", 'exec /usr/bin/env "$@"')
    script(tmp_path / "systemctl", f'echo systemctl "$@" >> "{tmp_path}/told.log"')
    install = "".join(f"printf '#!/bin/sh\\n' > '{tmp_path}/{name}'\n" for name in INSTALLS)
    chmod = " ".join(f'"{tmp_path}/{name}"' for name in INSTALLS)
    script(
        tmp_path / "apt-get",
        f'echo "$DEBIAN_FRONTEND" apt-get "$@" >> "{tmp_path}/told.log"\n'
        f'case "$*" in *install*) {install} /bin/chmod +x {chmod};; esac',
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(binaries.TOOLS_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(binaries, "SYSTEMD", tmp_path)
    return tmp_path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def told(machine: Path) -> list[str]:
    return (machine / "told.log").read_text().splitlines()


def test_what_is_missing_is_installed_and_its_services_give_the_ports_back(machine: Path) -> None:
    binaries.ensure()
    update, install, services = told(machine)
    assert update.startswith("noninteractive apt-get")
    assert install.endswith("install prometheus prometheus-alertmanager")
    assert services == "systemctl disable --now prometheus prometheus-alertmanager"


def test_a_service_that_was_there_before_is_left_running(machine: Path) -> None:
    script(machine / "prometheus", "")
    binaries.ensure()
    assert told(machine)[-1] == "systemctl disable --now prometheus-alertmanager"


def test_sudo_passes_on_what_apt_needs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(machine / "sudo", 'shift; exec /usr/bin/env -i PATH="$PATH" "$@"')
    script(machine / "true", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    binaries.ensure()
    assert told(machine)[1].startswith("noninteractive apt-get")
    assert told(machine)[-1].startswith("systemctl disable --now")


def test_without_apt_one_sentence_says_what_to_install(machine: Path) -> None:
    (machine / "apt-get").unlink()
    with pytest.raises(UserError, match="apt-get install prometheus prometheus-alertmanager"):
        binaries.ensure()


def test_nothing_is_run_where_nothing_is_missing(machine: Path) -> None:
    for name in INSTALLS:
        script(machine / name, "")
    binaries.ensure()
    assert not (machine / "told.log").exists()


def test_a_further_package_is_installed_alone_and_may_be_missing(machine: Path) -> None:
    for name in (*INSTALLS, "strace", "chromedriver"):
        script(machine / name, "")
    binaries.add(["strace", "chromium-driver"])  # whose program is called otherwise
    assert not (machine / "told.log").exists()
    (machine / "strace").unlink()
    binaries.add(["strace"])
    assert told(machine)[1].endswith("install strace")
    script(machine / "apt-get", "exit 1")
    binaries.add(["strace"])
