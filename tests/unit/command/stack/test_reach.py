"""Who would be told, as far as files and the mail server tell."""

import socket
from pathlib import Path

import pytest
import yaml

from command.paths import ALERTMANAGER, CONTACTS
from command.stack.reach import reach
from common.errors import UserError

CONFIG = ALERTMANAGER / "alertmanager.yml"


def told(folder: Path, config: Path = CONFIG, contacts: Path = CONTACTS) -> dict[str, str]:
    found = {}
    for severity, reached, said in reach(config, contacts, folder):
        assert reached is not said.startswith("nobody is told: ")
        found[severity] = said
    return found


def test_out_of_the_box_nobody_is_told_and_each_reason_is_said(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert list(found) == ["critical", "warning", "info"]
    assert all(said.startswith("nobody is told: ") for said in found.values())
    assert f"{tmp_path}/secrets/pagerduty_routing_key is missing or empty" in found["critical"]
    assert f"{tmp_path}/secrets/slack_webhook_url is missing or empty" in found["warning"]
    assert "mail.to in contacts.yml is the example's" in found["info"]


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pagerduty_routing_key").write_bytes(content)
    assert "is missing or empty" in told(tmp_path)["critical"]


def test_a_filled_file_and_a_mail_server_that_answers_reach_people(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("pagerduty_routing_key", "slack_webhook_url"):
        (tmp_path / "secrets" / name).write_text("x\n")
    contacts, config = tmp_path / "contacts.yml", tmp_path / "alertmanager.yml"
    contacts.write_text("mail: {to: [asha@roasters.in]}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        config.write_text(CONFIG.read_text().replace("127.0.0.1:25", host))
        found = told(tmp_path, config, contacts)
        assert found == {
            "critical": "page by pagerduty",
            "warning": "chat by slack",
            "info": "mail by email to asha@roasters.in",
        }
        *_, (_, reached, said) = reach(config, contacts, tmp_path, contained=True)
        assert not reached
        assert f"{host} is the container itself" in said
    assert f"no mail server answers at {host}" in told(tmp_path, config, contacts)["info"]


def test_a_receivers_own_address_and_server_go_before_the_common_ones(tmp_path: Path) -> None:
    document = yaml.safe_load(CONFIG.read_text())
    (mail,) = next(one for one in document["receivers"] if one["name"] == "mail")["email_configs"]
    config = tmp_path / "alertmanager.yml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        mail.update(to="me@mine.in", smarthost=f"127.0.0.1:{server.getsockname()[1]}")
        config.write_text(yaml.safe_dump(document))
        assert told(tmp_path, config)["info"] == "mail by email to me@mine.in"


def test_a_password_file_of_the_mail_server_and_a_receiver_without_a_way(tmp_path: Path) -> None:
    document = yaml.safe_load(CONFIG.read_text())
    document["global"]["smtp_auth_password_file"] = "secrets/smtp_password"
    page = next(one for one in document["receivers"] if one["name"] == "page")
    del page["pagerduty_configs"]
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump(document))
    found = told(tmp_path, config)
    assert "secrets/smtp_password is missing or empty" in found["info"]
    assert found["critical"] == "nobody is told: the receiver has no way"


def test_of_a_config_that_is_wrong_nothing_is_said(tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.read_text().replace("route:", "rout:", 1))
    with pytest.raises(UserError, match="amtool check-config says why"):
        told(tmp_path, config)
