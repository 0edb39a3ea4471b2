"""`llm-budget render`: what your own Prometheus, Alertmanager and Grafana include."""

import argparse
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from command.diagnosis.promql import seconds
from command.flags import command, file_flag, flag, service
from command.paths import CONTACTS, DASHBOARDS
from command.stack import configs
from common.errors import UserError
from common.files import replace_file
from common.yamlfile import read_document

HOOKS = ("degradation", "watchdog")  # of alertmanager.yml's receivers; the others are people
SERVICES = ("exporter", "receiver", "prometheus")
_GROUP = re.compile(r"^(  - name: .+\n)(?!    interval:)", re.MULTILINE)
DONE = """\
prometheus.yml    rule_files: [{seen}/rules/*.yml]
                  scrape_config_files: [{seen}/scrape.yml]   (before 2.43: copy its jobs)
alertmanager.yml  put the routes of {seen}/alertmanager.yml before yours, its receivers and inhibit rules beside yours
Grafana           provisioning: {seen}/grafana/datasources.yml, {seen}/grafana/dashboards.yml
tokens            {to}/secrets: for the exporter, the receiver, and Alertmanager, which must be able to read webhook_token
Then: llm-budget doctor. See docs/bring-your-own.md."""  # noqa: E501


def _address(name: str, text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
        raise UserError(f"--{name} {text!r} is not a URL like http://budget.internal:8000")
    return text.rstrip("/")


def _interval(text: str) -> str:
    if not 5 <= seconds(text) <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 5s to 60s")
    return text


@command(
    "write what your own Prometheus, Alertmanager and Grafana include",
    flag("--to", type=Path, required=True, metavar="FOLDER", help="may be rendered into again"),
    flag("--seen-as", metavar="PATH", help="that folder, as those three see it; default: the same"),
    *map(service, SERVICES),
    flag("--interval", type=_interval, default="5s", help="of scrapes and rules: 5s to 60s"),
    file_flag("--contacts", CONTACTS),
)
def render(arguments: argparse.Namespace) -> int:
    """Writes rules, scrape jobs, routes and receivers, data source, dashboards and tokens for
    services at these URLs. Tokens that are there stay.
    """
    for one in SERVICES:
        setattr(arguments, one, _address(one, getattr(arguments, one)))
    to, seen = arguments.to.resolve(), Path(arguments.seen_as or arguments.to.resolve())
    os.umask(0o022)  # other users' services read it
    try:
        _prometheus(to, arguments)
        _alertmanager(to, seen, arguments)
        _grafana(to, seen, arguments.prometheus)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or to}: {error.strerror}") from error
    print(DONE.format(seen=seen, to=to))
    return 0


def _prometheus(to: Path, arguments: argparse.Namespace) -> None:
    urls = {name: urlsplit(vars(arguments)[name]) for name in SERVICES}
    addresses = {name: url.netloc for name, url in urls.items()} | {"alertmanager": ""}
    config = configs.prometheus_config(addresses)
    (to / "rules").mkdir(parents=True, exist_ok=True)
    for path in map(Path, config["rule_files"]):
        text = _GROUP.sub(rf"\1    interval: {arguments.interval}\n", path.read_text())
        replace_file(to / "rules" / path.name, text.encode())
    jobs = [one for one in config["scrape_configs"] if one["job_name"].startswith("llm-")]
    for job in jobs:
        url = urls[job["job_name"].removeprefix("llm-")]
        job.update(scheme=url.scheme, scrape_interval=arguments.interval)
    configs.write(to / "scrape.yml", {"scrape_configs": jobs})


def _alertmanager(to: Path, seen: Path, arguments: argparse.Namespace) -> None:
    url = urlsplit(arguments.receiver)
    config = configs.alertmanager_config(url.netloc)
    routes = [one for one in config["route"]["routes"] if one["receiver"] in HOOKS]
    receivers = [one for one in config["receivers"] if one["name"] in HOOKS]
    for route in routes:  # their own watchdog, and people's routes, come after
        route.update({"receiver": f"llm-{route['receiver']}", "continue": True})
    for receiver in receivers:
        receiver["name"] = f"llm-{receiver['name']}"
        (webhook,) = receiver["webhook_configs"]
        webhook["url"] = webhook["url"].replace("http:", f"{url.scheme}:", 1)
        token = {"credentials_file": str(seen / "secrets" / "webhook_token")}
        webhook["http_config"]["authorization"] = token
    for rule in config["inhibit_rules"]:  # nobody else's alerts
        rule["target_matchers"].append('alertname=~"LLM.*"')
    parts = {"route": {"routes": routes}, "receivers": receivers}
    configs.write(to / "alertmanager.yml", parts | {"inhibit_rules": config["inhibit_rules"]})
    configs.write_templates(to, arguments.contacts)
    for name in configs.TOKENS:
        configs.ensure_secret(to / "secrets" / f"{name}_token")
    (to / "secrets").chmod(0o711)  # who may read a token gets at it


def _grafana(to: Path, seen: Path, prometheus: str) -> None:
    source, provider = (read_document(DASHBOARDS / "provisioning" / f"{name}.yml")
                        for name in ("datasources", "dashboards"))  # fmt: skip
    source["datasources"][0].update(name="LLM budget", url=prometheus, isDefault=False)
    provider["providers"][0]["options"]["path"] = str(seen / "grafana" / "dashboards")
    (to / "grafana" / "dashboards").mkdir(parents=True, exist_ok=True)
    configs.write(to / "grafana" / "datasources.yml", source)
    configs.write(to / "grafana" / "dashboards.yml", provider)
    for path in DASHBOARDS.glob("*.json"):
        replace_file(to / "grafana" / "dashboards" / path.name, path.read_bytes())
