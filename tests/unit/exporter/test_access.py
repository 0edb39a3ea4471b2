"""Who may talk to the exporter: tokens, hosts, pages of other sites, addresses."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from common.errors import UserError
from common.http import host_name
from exporter.access import AccessTokens, ExporterSettings, check_exposure, load_settings
from exporter.composition import Exporter
from exporter.config import Access, Config, Log
from exporter.web.app import application
from tests.support.clock import ManualClock
from tests.support.exporters import ADMIN, INGEST, NOON, event

METRICS = "metrics-token-0123456789"
POSTS = {
    "/v1/usage": (INGEST, event()),
    "/api/v1/grants": (ADMIN, {"amount_usd": "1", "reason": "r", "author": "a"}),
    "/api/v1/resets": (ADMIN, {"reason": "r", "author": "a"}),
    "/api/v1/revokes": (ADMIN, {"number": 1, "reason": "r", "author": "a"}),
    "/-/reload": (ADMIN, {}),
}
READS = ("/", "/runbook", "/metrics", "/api/v1/status")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    """An exporter that asks for all three tokens and is also called scrape.internal."""
    config = Config(access=Access(hosts=["Scrape.internal"]))
    settings = ExporterSettings(config, AccessTokens(INGEST, ADMIN, METRICS))
    path = tmp_path / "ledger.sqlite"
    exporter = Exporter(settings, lambda: settings, path, ManualClock(NOON))
    yield TestClient(application(exporter), base_url="http://127.0.0.1:8000")
    exporter.close()


def test_health_tells_log_paths_and_lines_to_holders_of_the_metrics_token_only(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret.jsonl").write_text('{"outcome": "sk-live-secret"}\n')
    (tmp_path / "secret.dir").mkdir()
    logs = [Log(str(tmp_path / "secret.jsonl")), Log(str(tmp_path / "secret.dir"))]
    for token in (METRICS, None):
        settings = ExporterSettings(Config(), AccessTokens(None, None, token))
        path, clock = tmp_path / f"{token}.sqlite", ManualClock(NOON)
        exporter = Exporter(settings, partial(load_settings, path, ""), path, clock, logs=logs)
        with contextlib.closing(exporter):
            exporter.logs.poll()
            exporter.logs.poll()
            web = TestClient(application(exporter), base_url="http://127.0.0.1:8000")
            told = web.get("/health", headers=bearer(METRICS)).text
            assert all(word in told for word in ("secret.jsonl", "sk-live-secret", "secret.dir"))
            untold = web.get("/health")
            assert untold.status_code == 503
            assert [log["state"] for log in untold.json()["logs"]] == ["ok", "problem"]
            assert ("secret" in untold.text) == (token is None)


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def post(web: TestClient, path: str, **headers: str) -> int:
    token, body = POSTS[path]
    return web.post(path, json=body, headers=bearer(token, **headers)).status_code


@pytest.mark.parametrize("path", POSTS)
def test_each_write_needs_its_own_token(web: TestClient, path: str) -> None:
    assert post(web, "/api/v1/grants") == 200  # the first number, for a revoke to undo
    assert post(web, path) == 200
    token, body = POSTS[path]
    for wrong in {INGEST, ADMIN, METRICS, "", token[:-1], token + "x", token.upper()} - {token}:
        assert web.post(path, json=body, headers=bearer(wrong)).status_code == 401
    answer = web.post(path, json=body)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", READS)
def test_the_metrics_token_guards_all_that_tells_the_spend(web: TestClient, path: str) -> None:
    assert web.get(path, headers=bearer(METRICS)).status_code == 200
    for wrong in ("", INGEST, ADMIN):
        assert web.get(path, headers=bearer(wrong)).status_code == 401
    assert web.get("/health").status_code == 200  # tells nothing


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},  # another service of this machine
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},  # DNS rebinding
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
    ],
    ids=str,
)
def test_a_page_of_another_site_cannot_write_even_with_the_token(
    web: TestClient, headers: dict[str, str]
) -> None:
    assert {post(web, path, **headers) for path in POSTS} == {403}
    assert web.get("/api/v1/status", headers=bearer(METRICS)).json()["requests"] == 0


def test_a_name_that_is_not_served_says_what_serves_it(web: TestClient) -> None:
    answer = web.get("/", headers={"Host": "budget.example.com", **bearer(METRICS)})
    assert "--allow-host" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "scrape.internal:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "10.0.0.7"},
        {"Host": "LOCALHOST"},
    ],
    ids=str,
)
def test_our_own_page_and_programs_can(web: TestClient, headers: dict[str, str]) -> None:
    assert post(web, "/v1/usage", **headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_body_must_say_that_it_is_plain_json(web: TestClient, headers: dict[str, str]) -> None:
    """What a page can send without asking first (a simple request) is none of these."""
    for path in POSTS.keys() - {"/-/reload"}:  # which takes no body
        answer = web.post(path, content=b"{}", headers=bearer(POSTS[path][0], **headers))
        assert answer.status_code == 415
        assert set(answer.json()) == {"error"}


def test_a_large_or_odd_admin_body_is_refused(web: TestClient) -> None:
    headers = bearer(ADMIN, **{"Content-Type": "application/json"})
    for body, status in ((b" " * 70_000, 413), (b"[" * 60_000, 400), (b"\xff", 400), (b"", 400)):
        assert web.post("/api/v1/grants", content=body, headers=headers).status_code == status


def test_only_what_is_there_answers(web: TestClient) -> None:
    assert web.get("/v1/usage").status_code == 405
    assert web.put("/api/v1/grants", headers=bearer(ADMIN)).status_code == 405
    assert web.get("/.git/config").status_code == 404
    assert web.get("/../budget.yml").status_code == 404


@given(st.text(max_size=40))
def test_any_host_header_reads_as_some_name(host: str) -> None:
    assert host_name(host) == host_name(host.upper()) or not host.isascii()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.internal"])
def test_other_addresses_need_an_ingest_token_or_a_plain_word(host: str) -> None:
    nobody = AccessTokens(None, None, None)
    with pytest.raises(UserError, match="needs an ingest token"):
        check_exposure(host, AccessTokens(None, ADMIN, METRICS), Config())
    check_exposure(host, AccessTokens(INGEST, None, None), Config())
    check_exposure(host, nobody, Config(access=Access(allow_remote_without_token=True)))
    for loopback in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check_exposure(loopback, nobody, Config())


def settings_of(folder: Path, access: str) -> Any:
    path = folder / "budget.yml"
    path.write_text(f"access: {{{access}}}")
    return load_settings(path, "127.0.0.1").tokens


def test_tokens_come_from_the_config_s_files_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{INGEST}\n")
    monkeypatch.setenv("LLM_BUDGET_INGEST_TOKEN", "another-token-0123456789")
    monkeypatch.setenv("LLM_BUDGET_METRICS_TOKEN", METRICS)
    monkeypatch.delenv("LLM_BUDGET_ADMIN_TOKEN", raising=False)
    tokens = settings_of(tmp_path, "ingest_token_file: token")
    assert tokens == AccessTokens(INGEST, None, METRICS)
    assert settings_of(tmp_path, "").ingest == "another-token-0123456789"


@pytest.mark.parametrize("file", ["/nowhere", r'"/nowhere\0"'])
def test_a_token_file_that_is_gone_is_named_and_no_open_door(tmp_path: Path, file: str) -> None:
    with pytest.raises(UserError, match="cannot read the admin token file /nowhere"):
        settings_of(tmp_path, f"admin_token_file: {file}")


def test_tokens_never_show_in_a_representation_or_an_answer(web: TestClient) -> None:
    texts = [web.get(path, headers=bearer(METRICS)).text for path in READS]
    texts.append(web.post("/v1/usage", json=event(), headers=bearer("wrong")).text)
    texts.append(repr(AccessTokens(INGEST, ADMIN, METRICS)))
    for text in texts:
        assert not any(token in text for token in (INGEST, ADMIN, METRICS))
