"""Other versions of Prometheus and Alertmanager, docker-compose and VictoriaMetrics, from Debian.

`make test-versions` fetches them into .tools/ with this module. Nothing is installed: apt-get runs
on a private sources list and state, dpkg unpacks its packages, and the mirror is the one that this
machine's apt uses.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

TOOLS = ROOT / ".tools"
# Debian release by the Prometheus it is there for; unstable moves on, which is what it is for.
SUITES = {"2.42": "bookworm", "2.53": "trixie", "3.5": "sid"}
NEWEST = "3.5"
WITH_COMPOSE = "2.53"  # its release has the first docker-compose that needs no other package
# What else a suite is there for: programs by the package that holds them.
OTHERS: dict[str, dict[str, tuple[str, ...]]] = {
    SUITES[WITH_COMPOSE]: {"docker-compose": ("docker-compose",)},
    # The older suites have no vmalert-tool.
    SUITES[NEWEST]: {"victoria-metrics": ("victoria-metrics", "vmalert", "vmalert-tool")},
}
# The older releases have promtool and amtool inside the other two.
PACKAGES, SPLIT_PACKAGES = ("prometheus", "prometheus-alertmanager"), ("promtool", "amtool")
NEEDED = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")


class UnavailableError(Exception):
    """Why a version cannot be had here, in one sentence."""


@dataclass(frozen=True)
class Release:
    """One Debian suite's tools, in a folder of their own."""

    suite: str
    folder: Path

    @property
    def bin(self) -> Path:
        """Where its binaries are; for LLM_BUDGET_TOOLS."""
        return self.folder / "usr" / "bin"

    @property
    def missing(self) -> list[str]:
        """The programs that are not there."""
        others = (name for names in self.others.values() for name in names)
        return [name for name in (*NEEDED, *others) if not (self.bin / name).exists()]

    @property
    def others(self) -> dict[str, tuple[str, ...]]:
        """Programs by package, besides Prometheus and Alertmanager."""
        return OTHERS.get(self.suite, {})

    def fetch(self) -> None:
        """Download and unpack, unless that is done; say so first. Raises UnavailableError."""
        if not self.missing:
            return
        apt = self._apt(_sources(self.suite))
        print(f"Debian {self.suite}: fetching its package list (about 10 MB) …", flush=True)
        _run(*apt, "update")
        optional = (*SPLIT_PACKAGES, *self.others)
        packages = [*PACKAGES, *(name for name in optional if _exists(apt, name))]
        listed = _run(*apt, "download", "--print-uris", *packages).splitlines()
        megabytes = sum(int(line.split()[2]) for line in listed) // 1_000_000
        print(f"fetching {megabytes} MB, {', '.join(packages)}, into {self.folder} …", flush=True)
        _run(*apt, "download", *packages, folder=self.folder / "apt")
        for package in (self.folder / "apt").glob("*.deb"):
            _run("dpkg", "-x", str(package), str(self.folder))
        shutil.rmtree(self.folder / "apt")
        if self.missing:
            raise UnavailableError(
                f"Debian {self.suite} has no {', '.join(self.missing)} for this machine"
            )

    def _apt(self, sources: str) -> list[str]:
        """apt-get that sees this suite only, and touches nothing of the system's."""
        home = self.folder / "apt"
        for name in ("lists/partial", "archives/partial"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "sources.list").write_text(sources)
        (home / "status").touch()
        options = {
            "Dir::Etc::SourceList": home / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": home / "lists",
            "Dir::State::status": home / "status",
            "Dir::Cache": home,
            "Dir::Cache::archives": home / "archives",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "APT::Sandbox::User": "root",  # the folder belongs to whoever runs this
        }
        return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]


def release(version: str) -> Release:
    """The tools around one Prometheus version of SUITES."""
    return Release(SUITES[version], TOOLS / SUITES[version])


def fetched(version: str) -> Release:
    """The version's tools; skips the test, and says why, where they are not."""
    import pytest  # not there when make test-fresh reads the mirror from this module

    tools = release(version)
    if tools.missing:
        missing = ", ".join(tools.missing)
        pytest.skip(
            f"no {missing} in {tools.folder}: make test-versions fetches it, or says why not"
        )
    return tools


def debian_mirror() -> tuple[str, str]:
    """This machine's own Debian mirror, and the keyring it is signed by, or "".

    Raises UnavailableError.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError("there is no apt-get here: this is no Debian")
    form = "$(ORIGIN)|$(SITE)|$(SIGNED_BY)|$(LABEL)"
    known = _run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    for line in known.splitlines():
        origin, site, signed_by, label = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return site, signed_by if signed_by.startswith("/") else ""
    raise UnavailableError("this machine's apt knows no Debian mirror (run: apt-get update)")


def _sources(suite: str) -> str:
    """A sources list for the suite. Raises UnavailableError."""
    site, signed_by = debian_mirror()
    option = f" [signed-by={signed_by}]" if signed_by else ""
    return f"deb{option} {site} {suite} main\n"


def _exists(apt: list[str], package: str) -> bool:
    policy = ["apt-cache", *apt[2:], "show", package]
    return subprocess.run(policy, capture_output=True).returncode == 0


def _run(*argv: str, folder: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise UnavailableError(f"{Path(argv[0]).name} {argv[-1]} failed: {last}")
    return done.stdout


def main() -> int:
    """Fetch all; say what is there and what is not, and why."""
    print(f"Other versions are kept in {TOOLS}; make clean removes them.")
    for version in SUITES:
        try:
            release(version).fetch()
            print(f"Prometheus {version}: there, from Debian {SUITES[version]}")
        except UnavailableError as reason:
            print(f"Prometheus {version}: not to be had, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
