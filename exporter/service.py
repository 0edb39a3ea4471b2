"""The exporter as a process: configuration, ledger, HTTP, signals."""

import argparse
import asyncio
import sys
from pathlib import Path

from exporter.config import Access, Config, load_config
from exporter.core.auth import read_token
from exporter.core.clock import SystemClock
from exporter.core.errors import UserError
from exporter.core.http import bind, is_loopback, parse_listen, serve
from exporter.ledger.ledger import Ledger
from exporter.web.app import Tokens, Web


def parser() -> argparse.ArgumentParser:
    """The exporter's flags; tokens are never among them."""
    flags = argparse.ArgumentParser(
        prog="python -m exporter",
        description="Keeps the books of LLM tokens and cost, and publishes them to Prometheus.",
        epilog="Tokens: LLM_BUDGET_INGEST_TOKEN_FILE, LLM_BUDGET_ADMIN_TOKEN_FILE, "
        "LLM_BUDGET_METRICS_TOKEN_FILE, the same without _FILE, or `access:` in the config.",
    )
    flags.add_argument("--config", type=Path, default=Path("budget.yml"), metavar="FILE")
    flags.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT")
    flags.add_argument(
        "--ledger", type=Path, default=Path("data/ledger/ledger.sqlite"), metavar="FILE"
    )
    flags.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a Host name to answer to, besides localhost, IP addresses and `access.hosts`",
    )
    return flags


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. 0 after a clean end, 2 when something keeps it from starting."""
    arguments = parser().parse_args(argv)
    try:
        return asyncio.run(run(arguments))
    except UserError as error:
        print(f"exporter: {error}", file=sys.stderr)  # noqa: T201
        return 2


async def run(arguments: argparse.Namespace) -> int:
    """Open everything, serve, close everything. Raises UserError."""
    config = load_config(arguments.config)
    host, port = parse_listen(arguments.listen)
    tokens = load_tokens(config.access)
    check_exposure(host, tokens, config)
    clock = SystemClock()
    ledger = Ledger(arguments.ledger, config, clock)
    try:
        listener = bind(host, port)
        web = Web(config, ledger, clock, tokens, arguments.allow_host)
        print(f"exporter: listening on http://{host}:{listener.getsockname()[1]}", flush=True)  # noqa: T201
        await serve(web.app(), listener)
    finally:
        ledger.close()
    return 0


def load_tokens(access: Access) -> Tokens:
    """The three tokens. Raises UserError on an unreadable or weak one."""

    def token(name: str, file: str | None) -> str | None:
        return read_token(name, Path(file) if file else None)

    return Tokens(
        ingest=token("ingest", access.ingest_token_file),
        admin=token("admin", access.admin_token_file),
        metrics=token("metrics", access.metrics_token_file),
    )


def check_exposure(host: str, tokens: Tokens, config: Config) -> None:
    """Raises UserError when others could write to the books without a token."""
    if is_loopback(host) or tokens.ingest or config.access.allow_remote_without_token:
        return
    raise UserError(
        f"listening on {host} needs an ingest token (LLM_BUDGET_INGEST_TOKEN_FILE); "
        "or say access: {allow_remote_without_token: true} in the config"
    )
