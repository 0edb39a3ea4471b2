"""Two clustered Alertmanagers, one killed mid-alert; and money granted while the level is high."""

from pathlib import Path
from typing import Any

import requests

from command.stack.bundle import Bundle
from command.stack.processes import Child, free_port
from tests.support.loop import LIMIT, Loop
from tests.support.waiting import until

RANKS = ["none", "conserve", "control", "emergency", "fallback"]


class Pair(Bundle):
    """A bundle with a second Alertmanager, clustered with the first, as the docs say to run it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.second_port = free_port()
        gossip = (free_port(), free_port())
        second = [arg for arg in self.alertmanager.argv if "listen-address" not in arg]
        first = [arg for arg in self.alertmanager.argv if "cluster" not in arg]
        flags = ["--cluster.peer-timeout=3s", "--cluster.settle-timeout=5s"]
        flags += [f"--cluster.peer=127.0.0.1:{port}" for port in gossip]
        self.alertmanager.argv = [*first, f"--cluster.listen-address=127.0.0.1:{gossip[0]}", *flags]
        second = [arg.replace("/alertmanager", "/alertmanager2", 1) if "storage" in arg else arg
                  for arg in second]  # fmt: skip
        argv = [
            *second,
            f"--web.listen-address=127.0.0.1:{self.second_port}",
            f"--cluster.listen-address=127.0.0.1:{gossip[1]}",
            *flags,
        ]
        ready = f"http://127.0.0.1:{self.second_port}/-/ready"
        self.second = Child(
            "alertmanager2", argv, self.folder / "logs" / "am2.log", ready, folder=self.folder
        )
        self.receiver.argv += ["--alertmanager", f"http://127.0.0.1:{self.second_port}"]

    @property
    def children(self) -> tuple[Child, ...]:
        return (*super().children, self.second)

    def prometheus_config(self) -> dict[str, object]:
        config: Any = super().prometheus_config()
        for manager in config["alerting"]["alertmanagers"]:
            manager["static_configs"] = [
                {"targets": [f"127.0.0.1:{port}"]}
                for port in (self.ports.alertmanager, self.second_port)
            ]
        return dict(config)


def mildest(loop: Loop, since: int) -> str:
    """The mildest config that was written after so many changes."""
    return min((line["level"] for line in loop.audit()[since:]), key=RANKS.index)


def changes_before(loop: Loop, level: str) -> int:
    """How many changes were written before the first of that level; 0 while there is none."""
    levels = [line["level"] for line in loop.audit()]
    return levels.index(level) if level in levels else 0


def peers(port: int) -> int:
    answer = requests.get(f"http://127.0.0.1:{port}/api/v2/status", timeout=5).json()
    return len(answer["cluster"].get("peers", []))


def test_a_pair_loses_one_mid_alert_and_a_grant_never_passes_through_none(tmp_path: Path) -> None:
    with Loop(tmp_path, kind=Pair) as loop:
        pair: Any = loop.bundle
        until(lambda: peers(pair.second_port) == 2, timeout=60, what="the cluster")
        refused = requests.post(f"{pair.url('receiver')}/alerts", json={}, timeout=5)
        assert refused.status_code == 401  # the pair carries the token, others do not

        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        pair.second.kill()
        loop.spend_to(LIMIT * 95 // 100)  # the one that is left passes it on
        written = until(lambda: changes_before(loop, "emergency"), what="level emergency")
        pair.second.start()
        pair.second.wait_ready()
        pair.alertmanager.kill()  # and now the other one, while the alert fires
        until(lambda: "unknown" in str(loop.state()["sources"]), what="the loss to be seen")
        holds = until(lambda: loop.state()["holds"] or loop.level() == "emergency", what="a round")
        assert holds
        pair.alertmanager.start()
        pair.alertmanager.wait_ready()
        assert mildest(loop, written) == "emergency"

        loop.grant(str(LIMIT_AFTER_GRANT))  # 95 % of the money is 80 % of it now
        loop.wait_level("control", timeout=60)
        until(lambda: notified(loop) > 0, what="notifications")
        assert mildest(loop, written) == "control"
        stays = loop.state()
        assert "control" in stays["wanted"]
        assert stays["level"] == "control"


def notified(loop: Loop) -> float:
    """Webhooks that the receiver took."""
    text = requests.get(f"{loop.bundle.url('receiver')}/metrics", timeout=5).text
    line = next(
        line for line in text.splitlines() if 'notifications_total{result="applied"}' in line
    )
    return float(line.split()[-1])


LIMIT_AFTER_GRANT = "0.1875"  # 0.95 / 1.1875 = 0.80
