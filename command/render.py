"""`llm-budget render`: what your own Prometheus, Alertmanager and Grafana have to include."""

import argparse
from pathlib import Path
from typing import Any

from command.flags import command, file_flag, flag
from command.paths import CONTACTS, DASHBOARDS, RULES
from command.stack import configs
from common.errors import UserError
from common.files import replace_file
from common.yamlfile import dump, read_document

OURS = ("degradation", "watchdog")  # of the receivers; people's are yours
SECRET = "/etc/alertmanager/secrets/webhook_token"  # noqa: S105  where it may lie
WHERE = """\
prometheus/rules/*.yml      rule_files of prometheus.yml
prometheus/scrape.yml       scrape_config_files (Prometheus 2.43), or its jobs under scrape_configs
alertmanager/routes.yml     its routes first under route.routes, its receivers under receivers
alertmanager/templates      templates of alertmanager.yml, for messages to people
grafana/                    provisioning/datasources, provisioning/dashboards, and the dashboards
docs/bring-your-own.md shows each place; `llm-budget doctor` looks whether it works."""


@command(
    "write the files that your own Prometheus, Alertmanager and Grafana include",
    flag("--to", type=Path, required=True, metavar="FOLDER"),
    flag("--exporter", default="127.0.0.1:8000", metavar="HOST:PORT", help="as Prometheus sees it"),
    flag("--receiver", default="127.0.0.1:8001", metavar="HOST:PORT", help="as both see it"),
    flag("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="as Grafana sees it"),
    flag("--webhook-token-file", default=SECRET, metavar="FILE", help=f"default: {SECRET}"),
    flag("--metrics-token-file", metavar="FILE", help="where Prometheus reads it, if one is set"),
    file_flag("--contacts", CONTACTS),
)
def render(arguments: argparse.Namespace) -> int:
    """Writes rules, scrape jobs, routes, templates, data source and dashboards into a folder; when
    called again anew, without rules that are no longer shipped. There is no secret in them.
    """
    for address in (arguments.exporter, arguments.receiver):
        if "://" in address or not address.rpartition(":")[2].isdecimal():
            raise UserError(f"{address!r} is not HOST:PORT, like budget.example.net:8000")
    files = {
        **_prometheus(arguments),
        "alertmanager/routes.yml": _alertmanager(arguments),
        **_grafana(arguments),
    }
    folder = arguments.to
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, content)
        configs.write_templates(folder / "alertmanager", arguments.contacts)
        for old in folder.glob("prometheus/rules/*.yml"):
            if f"prometheus/rules/{old.name}" not in files:
                old.unlink()
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    print(f"Written to {folder}:\n{WHERE}")
    return 0


def _prometheus(arguments: argparse.Namespace) -> dict[str, bytes]:
    config = configs.prometheus_config(
        {**vars(arguments), "alertmanager": "", "prometheus": ""}, RULES
    )
    jobs = [job for job in config["scrape_configs"] if job["job_name"].startswith("llm-")]
    for job in jobs:
        job["scrape_interval"] = config["global"]["scrape_interval"]
        if arguments.metrics_token_file and job["job_name"] == "llm-exporter":
            job["authorization"] = {"credentials_file": arguments.metrics_token_file}
    rules = {f"prometheus/rules/{Path(one).name}": Path(one) for one in config["rule_files"]}
    return {
        **{name: file.read_bytes() for name, file in rules.items()},
        "prometheus/scrape.yml": _yaml({"scrape_configs": jobs}),
    }


def _alertmanager(arguments: argparse.Namespace) -> bytes:
    """The routes and webhooks of the receiver alone."""
    config = configs.alertmanager_config(arguments.receiver)
    receivers = [one for one in config["receivers"] if one["name"] in OURS]
    for webhook in (webhook for one in receivers for webhook in one["webhook_configs"]):
        webhook["http_config"]["authorization"]["credentials_file"] = arguments.webhook_token_file
    # Yours see these alerts, too: a Watchdog of your own goes on to where it went.
    shipped = config["route"]["routes"]
    routes = [one | {"continue": True} for one in shipped if one["receiver"] in OURS]
    return _yaml({"routes": routes, "receivers": receivers})


def _grafana(arguments: argparse.Namespace) -> dict[str, bytes]:
    sources = read_document(DASHBOARDS / "provisioning" / "datasources.yml")
    sources["datasources"][0].update(url=arguments.prometheus, isDefault=False)
    provider = (DASHBOARDS / "provisioning" / "dashboards.yml").read_bytes()
    boards = {f"grafana/dashboards/{one.name}": one for one in DASHBOARDS.glob("*.json")}
    return {
        "grafana/provisioning/datasources/llm-budget.yml": _yaml(sources),
        "grafana/provisioning/dashboards/llm-budget.yml": provider,
        **{name: file.read_bytes() for name, file in boards.items()},
    }


def _yaml(document: Any) -> bytes:
    return dump(document, Path("a.yml"))
