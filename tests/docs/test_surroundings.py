"""Tests see the same machine whatever the shell that starts them has set."""

import getpass
import locale
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import ROOT

ODD = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "COLUMNS": "60",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "LANG": "de_DE.ISO-8859-1",
    "LC_ALL": "POSIX",
    "TZ": "Pacific/Kiritimati",
    "PYTHONWARNINGS": "default",
    "MAKEFLAGS": "n",
    "LLM_BUDGET_SPOOL": "/nowhere",
    "LLM_BUDGET_EXPORTER": "http://127.0.0.1:9",
}
IN_A_CHILD = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def test_what_a_test_sees() -> None:
    assert not (set(ODD) - {"TERM", "LANG", "LC_ALL", "TZ"}) & set(os.environ)
    assert (os.environ["LANG"], os.environ["LC_ALL"]) == ("C.UTF-8", "C.UTF-8")
    assert (os.environ["TERM"], os.environ["TZ"], time.tzname[0]) == ("xterm", "UTC", "UTC")
    assert getpass.getuser() == f"tester-{os.getuid()}"
    assert Path.home().name.startswith("home-of-tests-")
    assert Path.cwd() == ROOT
    assert locale.setlocale(locale.LC_CTYPE) == "C.UTF-8"
    umask = os.umask(0o022)
    assert umask == 0o022
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    child = subprocess.run([sys.executable, "-c", IN_A_CHILD], capture_output=True, text=True)
    assert child.stdout == "True\n"


def test_what_a_test_leaves_behind() -> None:
    os.umask(0)
    os.environ["LANG"] = "de_DE.ISO-8859-1"
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)


test_the_next_test_does_not_see_it = test_what_a_test_sees


def _oddly() -> None:
    os.umask(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_odd_surroundings_stay_outside(tmp_path: Path) -> None:
    """A background job with a proxy, a narrow dumb terminal, another language, zone and umask."""
    this = Path(__file__)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(this)]
    environment = {"PATH": os.environ["PATH"], **ODD}
    done = subprocess.run(
        [*argv, "-k", "what_a_test or the_next"],
        cwd=tmp_path,
        env=environment,
        preexec_fn=_oddly,
        capture_output=True,
        text=True,
    )
    assert re.search(r"^3 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
