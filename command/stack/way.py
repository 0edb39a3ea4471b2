"""In which of two ways the bundle runs: as local processes, or in containers by docker compose."""

import subprocess
from pathlib import Path
from shlex import quote
from typing import Literal

from command.paths import LEDGER
from common.errors import UserError

Way = Literal["processes", "compose"]
ENGINE = (("docker", "info"), ("docker", "compose", "version"))  # what compose needs
FILE = "way"  # in the data folder: how it is used
TRACES = {"processes": LEDGER, "compose": Path("compose")}  # of versions that left no note
TIMEOUT_SECONDS = 20


def choose(asked: str, folder: Path, special: bool) -> Way:
    """The way asked for; of auto, compose where an engine answers. Says which it is, and why.

    special: flags were given that only processes follow. Raises UserError where compose is asked
    for with them or without an engine, and where the data folder was used the other way, whose
    ledger it would leave.
    """
    if asked == "compose" and special:
        raise UserError(
            "docker-compose.yml knows its own data folder, ladder, hold, ports and addresses: "
            "leave these flags out and edit it, or say --way processes"
        )
    way, why = _possible(special) if asked == "auto" else (asked, "as --way says")
    ledgers = {"processes": f"{folder / LEDGER}", "compose": "docker compose's volume `ledger`"}
    before = _before(folder)
    other = next((one for one in before if one != way), None)
    if other and (asked == "auto" or way not in before):
        raise UserError(
            f"{folder} was used with {other}, and its ledger is {ledgers[other]}; it would run "
            f"with {way} now ({why}) and begin another. Say --way {other} to go on, or change it "
            f"for good with: echo {way} > {quote(f'{folder / FILE}')}"
        )
    if asked == "compose" and (problem := _no_engine()):
        raise UserError(f"--way compose needs a Docker engine that answers, but {problem}")
    print(f"Running with {way} ({why}). The ledger is {ledgers[way]}.", flush=True)
    return "compose" if way == "compose" else "processes"


def note(way: Way, folder: Path) -> None:
    """Let the data folder know how it is used: when it is, since before there is no ledger."""
    (folder / FILE).write_text(f"{way}\n")


def _possible(special: bool) -> tuple[str, str]:
    if special:
        return "processes", "only they follow these flags"
    problem = _no_engine()
    return ("processes", problem) if problem else ("compose", "a Docker engine answers")


def _no_engine() -> str:
    found = ((argv, _problem(argv)) for argv in ENGINE)
    return next((f"`{' '.join(argv)}` {problem}" for argv, problem in found if problem), "")


def _problem(argv: tuple[str, ...]) -> str:
    """Why it does not work, in a few words; empty: it does."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except FileNotFoundError:
        return f"cannot run: {argv[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not answer: {error}"
    lines = (done.stderr or done.stdout).strip().splitlines()
    return f"fails: {lines[-1][:200] if lines else done.returncode}" if done.returncode else ""


def _before(folder: Path) -> list[str]:
    """How the folder was used: not yet, in one way, or, before there was a note, in both."""
    try:
        said = (folder / FILE).read_text().strip()
    except (OSError, UnicodeError):
        said = ""
    if said in TRACES:
        return [said]
    return [way for way, trace in TRACES.items() if (folder / trace).exists()]
