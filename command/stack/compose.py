"""What docker-compose.yml mounts: rendered configs and token files, under data/compose.

The folder is for its owner only (0700); the files in it are readable by all, because the containers
run as different users and see single files only.
"""

from pathlib import Path

from command.stack import configs
from common.files import replace_file

ADDRESSES = {
    "exporter": "exporter:8000",
    "receiver": "receiver:8001",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "alertmanager:9093",
}
RULES = Path("/etc/prometheus/rules")
# People fill these in; empty files keep the mounts whole.
PEOPLES_SECRETS = ("pagerduty_routing_key", "slack_webhook_url")


def prepare(folder: Path, contacts: Path) -> None:
    """Write everything that the compose file mounts; tokens stay as they are, in data/secrets.

    folder: data/compose. Raises UserError.
    """
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    configs.write(folder / "prometheus.yml", configs.prometheus_config(ADDRESSES, RULES))
    configs.write_alertmanager(folder, ADDRESSES, contacts)
    for name in (f"{token}_token" for token in configs.TOKENS):
        made = folder.parent / "secrets" / name  # where the command line looks, too
        configs.ensure_secret(made)
        replace_file(secrets / name, made.read_bytes(), mode=0o644)
    configs.ensure_secret(secrets / "grafana_admin_password", mode=0o644)
    for path in (secrets / name for name in PEOPLES_SECRETS):
        if not path.exists():
            replace_file(path, b"", mode=0o644)
