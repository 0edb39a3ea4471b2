"""The README's two commands in a bare Debian: `make test-fresh RELEASE=trixie`, as root.

debootstrap's smallest system, a clean clone of the last commit (what is not committed is not in
it), and only the packages that the README names. The mirror, the package index and the proxy are
those of this machine. Everything runs in a mount and a process namespace of its own: when that
ends, however it ends, nothing of it stays mounted or running.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.paths import ROOT
from tests.support.versions import UnavailableError, debian_mirror

NEEDED = "python3", "make"  # what the README asks for
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# $1: the new system's folder; then what it may read of this machine, under /mnt.
# Processes, ptys and shared memory are what every machine has and debootstrap cannot make.
INSIDE = """
set -eu
new=$1; shift
mount -t proc proc "$new/proc"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$new/dev/pts"
mount -t tmpfs tmpfs "$new/dev/shm"
for path in "$@"; do
  inside=$new/mnt$path
  if [ -d "$path" ]; then mkdir -p "$inside"; else install -D /dev/null "$inside"; fi
  mount --bind "$path" "$inside"
  mount -o remount,bind,ro "$inside"
done
exec chroot "$new" /bin/sh -euxc '
  apt-get update -q
  apt-get install -y -q --no-install-recommends NEEDED
  cd /root/llm-budget
  make demo
  make test
'
""".replace("NEEDED", " ".join(NEEDED))


def main(release: str) -> int:
    """Build, run, remove; the exit status of what ran. Raises UnavailableError."""
    _refuse()
    folder = Path(tempfile.mkdtemp(prefix=f"llm-budget-{release}-"))
    folder.chmod(0o755)  # apt downloads as a user of its own
    print(f"Building Debian {release} in {folder} (2 GB); it is removed at the end.", flush=True)
    try:
        _build(folder, release)
        return _run(folder)
    finally:
        shutil.rmtree(folder)


def _refuse() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("make test-fresh needs root, for debootstrap and chroot: use sudo")
    for tool, package in (("debootstrap",) * 2, ("git",) * 2, ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed; run: apt-get install {package}")


def _build(folder: Path, release: str) -> None:
    site, signed_by = debian_mirror()
    keyring = [f"--keyring={signed_by}"] if signed_by else []
    # In a namespace of its own, because debootstrap mounts, too.
    argv = ["unshare", "--mount", "debootstrap", "--variant=minbase", *keyring]
    _check(*argv, release, str(folder), site)
    shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
    (folder / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (folder / "etc" / "apt" / "apt.conf.d" / "99host").write_text(_apt_settings())
    _check("git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder / "root/llm-budget"))


def _check(*argv: str) -> None:
    if subprocess.run(argv).returncode != 0:
        raise UnavailableError(f"{' '.join(argv)} failed; its words are above")


def _apt_settings() -> str:
    """How this machine's apt reaches its mirror: proxies, and what it checks of a snapshot."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    wanted = ("Acquire::http", "Acquire::Check-")
    return "".join(line + "\n" for line in dump.stdout.splitlines() if line.startswith(wanted))


def _run(folder: Path) -> int:
    """Both commands inside; Ctrl-C and SIGTERM end them first and the folder after."""
    settings = _pip_settings()
    paths = sorted({path for value in settings.values() for path in _local_paths(value)})
    settings = {name: _inside(value) for name, value in settings.items()}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment = {"PATH": PATH, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh"]
    process = subprocess.Popen(
        [*argv, str(folder), *paths],
        env=environment | settings | proxies,
        stdin=subprocess.DEVNULL,
    )
    try:
        return process.wait()
    finally:
        process.kill()
        process.wait()


def _pip_settings() -> dict[str, str]:
    """This machine's pip configuration, wherever it stands, as pip's environment variables."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    pairs = [line.split("=", 1) for line in sorted(listed.splitlines(), reverse=True)]
    return {
        "PIP_" + key.split(".", 1)[1].upper().replace("-", "_"): ast.literal_eval(value)
        for key, value in pairs  # the environment's, which begin with a colon, come last and win
        if key.startswith(("global.", ":env:."))
    }


def _local_paths(setting: str) -> list[str]:
    """The files and folders of this machine that a setting of pip's names."""
    paths = [urlsplit(word).path for word in setting.split() if word.startswith(("file:", "/"))]
    # The pages of an index (…/simple) link to files beside it.
    return [path.rstrip("/").removesuffix("/simple") for path in paths if os.path.exists(path)]


def _inside(setting: str) -> str:
    """The same setting where those are under /mnt."""
    for path in _local_paths(setting):
        setting = re.sub(rf"(^| |//){re.escape(path)}(?=/| |$)", rf"\1/mnt{path}", setting)
    return setting


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main(sys.argv[1]))
    except UnavailableError as reason:
        sys.exit(str(reason))
