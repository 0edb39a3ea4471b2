"""Prometheus and Alertmanager: found on PATH, or installed from the distribution where allowed."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from common import signals
from common.errors import UserError
from common.startup import settle

BINARIES = ("prometheus", "promtool", "alertmanager", "amtool")  # as upstream calls them
# What Debian calls a service: its package, its binary and its unit. Debian's newest releases split
# promtool out of prometheus; apt ignores no name it lacks, so the split package is asked for only
# after the others left promtool missing.
DEBIANS = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
PROGRAMS = {"chromium-driver": "chromedriver"}  # of packages that are called otherwise
SYSTEMD = Path("/run/systemd/system")  # there when systemd runs the machine
TOOLS_VARIABLE = "LLM_BUDGET_TOOLS"  # a folder searched before PATH: other versions, for tests


def find(name: str) -> Path | None:
    """The path of a binary by its upstream name, or None."""
    search = os.pathsep.join(filter(None, [os.environ.get(TOOLS_VARIABLE), os.environ.get("PATH")]))
    candidates = (DEBIANS.get(name, name), PROGRAMS.get(name, name))
    found = (shutil.which(candidate, path=search) for candidate in candidates)
    return next((Path(path) for path in found if path), None)


def need(name: str) -> str:
    """The path of a binary. Raises UserError that says what to install."""
    found = find(name)
    if found is None:
        raise UserError(
            f"{name} is not installed; on Debian or Ubuntu run: apt-get install "
            f"{' '.join(DEBIANS.values())}; elsewhere put it on PATH"
        )
    return str(found)


def ensure() -> None:
    """Install what is missing with apt-get when that is possible; raises UserError when not."""
    if _missing(BINARIES) and (prefix := _apt_prefix()) is not None:
        print(f"Installing {', '.join(DEBIANS.values())} with apt-get …", flush=True)
        units = [DEBIANS[name] for name in _missing(DEBIANS)]
        _install(prefix, *DEBIANS.values())
        if find("promtool") is None:
            _install(prefix, "promtool")
        # Debian starts what it installs, now and at each boot, on the ports that we need. What was
        # there before is in somebody's use.
        if units and SYSTEMD.is_dir():
            argv = [*prefix, "systemctl", "disable", "--now", *units]
            subprocess.run(argv, capture_output=True)
    for name in BINARIES:
        need(name)


def add(packages: Iterable[str]) -> None:
    """Install packages with a program of their name, where possible; apt-get says why not."""
    if (new := _missing(packages)) and (prefix := _apt_prefix()) is not None:
        with contextlib.suppress(UserError):
            _install(prefix, *new)


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if find(name) is None]


def _apt_prefix() -> list[str] | None:
    """How to run apt-get as root without asking: [], ["sudo", "-n"], or None when not allowed."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    known = shutil.which("apt-get") and shutil.which("sudo")
    allowed = known and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0
    return sudo if allowed else None


def _install(prefix: list[str], *packages: str) -> None:
    """Quiet calls of apt-get; the output of one that fails to install is shown."""
    options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    # sudo passes no environment on; RUNLEVEL=1 keeps services stopped where init is not systemd.
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", *options]
    # A killed apt-get leaves packages half installed; Ctrl-C reaches it, too, and it knows when.
    with signals.noted():
        subprocess.run([*apt, "update"], capture_output=True)
        done = subprocess.run([*apt, "install", *packages], text=True, capture_output=True)
    if done.returncode != 0:
        print(done.stdout, done.stderr)
        raise UserError(f"apt-get could not install {', '.join(packages)}; its output is above")


def main() -> int:
    """Install what the tests need; 1 when that is not possible. Further packages are optional."""
    settle()
    try:
        ensure()
        add(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(signals.run(main))
