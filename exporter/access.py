"""Who may talk to the exporter: its tokens, and what listening on a network asks for."""

from dataclasses import dataclass, field
from pathlib import Path

from common.auth import read_token
from common.errors import UserError
from common.http import is_loopback
from exporter.config import Config, load_config


@dataclass(frozen=True)
class AccessTokens:
    """Bearer tokens. None: not asked for (ingest, metrics), nobody may (admin)."""

    ingest: str | None = field(repr=False)
    admin: str | None = field(repr=False)
    metrics: str | None = field(repr=False)


@dataclass(frozen=True)
class ExporterSettings:
    """What one request sees: a config, and the tokens read with it."""

    config: Config
    tokens: AccessTokens


def load_settings(path: Path, host: str) -> ExporterSettings:
    """budget.yml and the tokens, for an exporter that listens on host. Raises UserError."""
    config = load_config(path)
    access = config.access
    tokens = AccessTokens(
        ingest=read_token("ingest", access.ingest_token_file),
        admin=read_token("admin", access.admin_token_file),
        metrics=read_token("metrics", access.metrics_token_file),
    )
    check_exposure(host, tokens, config)
    return ExporterSettings(config, tokens)


def check_exposure(host: str, tokens: AccessTokens, config: Config) -> None:
    """Raises UserError when others could write to the ledger without a token."""
    if is_loopback(host) or tokens.ingest or config.access.allow_remote_without_token:
        return
    raise UserError(
        f"listening on {host} needs an ingest token (LLM_BUDGET_INGEST_TOKEN_FILE); "
        "or set access: {allow_remote_without_token: true} in the config"
    )
