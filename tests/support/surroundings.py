"""What every test sees of the machine and the shell, whatever those have set.

conftest.py calls settle() before it imports anything of ours, and again after each test.
"""

import atexit
import locale
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

# Where programs and their libraries are, and what somebody tells the tests themselves.
KEPT = (
    "PATH", "TMPDIR", "VIRTUAL_ENV", "CI",
    "LLM_BUDGET_TOOLS", "LLM_BUDGET_KEEP_RESULTS", "LLM_BUDGET_EXAMPLES",
)  # fmt: skip
KEPT_FAMILIES = ("LD_", "PYTEST_", "HYPOTHESIS_", "COV")
GIVEN = {
    "HOME": tempfile.mkdtemp(prefix="home-of-tests-"),
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": f"tester-{os.getuid()}",  # pytest keeps a folder in /tmp for each name
    "TERM": "xterm",
    "TZ": "UTC",
}
atexit.register(shutil.rmtree, GIVEN["HOME"], ignore_errors=True)


def settle() -> None:
    """Make environment, zone, umask, folder and Ctrl-C what they always are here."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_FAMILIES)}
    wanted = kept | GIVEN
    if os.environ != wanted:
        os.environ.clear()
        os.environ.update(wanted)
        time.tzset()
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    os.umask(0o022)
    os.chdir(Path(__file__).parents[2])
    # A shell's background job inherits an ignored SIGINT, and so would every child of a test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
