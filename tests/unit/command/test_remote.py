"""Whom a command talks to, and what it says when a token is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from command.commands import parser
from command.main import main
from command.paths import REPOSITORY
from command.remote import settle, token_of
from common.errors import UserError
from tests.support.budget_statuses import budget_status
from tests.support.pages import serving


def exporter_of(*words: str) -> str:
    arguments = parser().parse_args([*words])
    settle(arguments)
    return str(arguments.exporter)


def test_a_flag_then_the_environment_then_the_data_folder_then_the_usual_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("report", "--data", str(tmp_path))
    monkeypatch.delenv("LLM_BUDGET_EXPORTER", raising=False)
    assert exporter_of(*data) == "http://127.0.0.1:8000"
    (tmp_path / "services.yml").write_text("exporter: http://127.0.0.1:8100\n")
    assert exporter_of(*data) == "http://127.0.0.1:8100"
    monkeypatch.setenv("LLM_BUDGET_EXPORTER", "http://budget.example:8000")
    assert exporter_of(*data) == "http://budget.example:8000"
    assert exporter_of(*data, "--exporter", "http://a:1") == "http://a:1"
    (tmp_path / "services.yml").write_text("[")
    monkeypatch.delenv("LLM_BUDGET_EXPORTER")
    with pytest.raises(UserError, match=r"services\.yml"):
        exporter_of(*data)


def test_the_token_of_make_up_is_for_what_it_runs_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, listened, elsewhere = "http://localhost:8000", "http://10.0.0.5:8000", "http://a.b:8000"
    assert token_of("ingest", here, tmp_path) is None
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ingest_token").write_text("made-0123456789abcdef\n")
    (tmp_path / "services.yml").write_text(f"exporter: {listened}\n")
    for url in (here, listened):
        assert token_of("ingest", url, tmp_path) == "made-0123456789abcdef"
    assert token_of("ingest", elsewhere, tmp_path) is None
    monkeypatch.setenv("LLM_BUDGET_INGEST_TOKEN", "said-0123456789abcdef")
    for url in (here, elsewhere):
        assert token_of("ingest", url, tmp_path) == "said-0123456789abcdef"


@pytest.mark.parametrize(
    ("words", "status", "kind", "file"),
    [
        (["grant", "5", "--reason", "x", "--author", "ann"], 2, "admin", "--data DIR, under"),
        (["status"], 3, "metrics", "access.metrics_token_file in its budget.yml"),
    ],
)
def test_a_missing_token_is_named_with_its_variable(
    words: list[str],
    status: int,
    kind: str,
    file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def refuse(_: Request) -> JSONResponse:
        return JSONResponse({"error": "this needs the token"}, 401)

    paths = ("/api/v1/status", "/api/v1/grants")
    routes = [Route(path, refuse, methods=["GET", "POST"]) for path in paths]
    with serving(Starlette(routes=routes)) as site:
        assert main([*words, "--data", str(tmp_path), "--exporter", site.url]) == status
    error = capsys.readouterr().err
    named = f"name the file of its {kind} token in LLM_BUDGET_{kind.upper()}_TOKEN_FILE"
    assert f"the exporter refused with 401: this needs the token; {named}" in error
    assert file in error
    assert error.count("\n") == 1


def test_a_reader_that_ends_early_is_no_error() -> None:
    """llm-budget status --all | head -1, with more rows than a pipe holds."""
    rows = {f"roaster-{number:05}": "0.001" for number in range(9000)}
    document = budget_status("0").document() | {"by_roaster": rows}

    async def answer(_: Request) -> JSONResponse:
        return JSONResponse(document)

    with serving(Starlette(routes=[Route("/api/v1/status", answer)])) as site:
        argv = [sys.executable, "-m", "command.main", "status", "--all", "--exporter", site.url]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
        ) as process:
            assert process.stdout
            assert process.stderr
            assert process.stdout.readline() == b"Budget Status: OK\n"
            process.stdout.close()
            error = process.stderr.read()
        assert process.returncode == 0, error
        assert b"Traceback" not in error


@pytest.mark.parametrize("wrong", ["127.0.0.1:8000", "ann:hunter2@budget:8000", "ftp://budget"])
def test_what_is_no_url_is_said_to_be_none(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--reason", "x", "--author", "ann", "--exporter", wrong]
    assert main(["grant", "5", *asked]) == 2
    said = "llm-budget grant: the exporter's URL must begin with http:// or https://\n"
    assert capsys.readouterr().err == said


def test_a_password_in_a_url_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--exporter", "http://ann:hunter2@127.0.0.1:1"]) == 3
    error = capsys.readouterr().err
    assert "cannot reach the exporter at http://127.0.0.1:1/" in error
    assert "hunter2" not in error
