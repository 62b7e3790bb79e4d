"""The dashboard and the alerts: Grafana's own data model reads the one, and a real Prometheus evaluates both."""

import json
import re
import shutil
import socket
import subprocess
from itertools import pairwise
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from harness import until
from tls import start_with

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: ["{alerts}"]
scrape_configs:
  - job_name: switchboard-relay
    static_configs: [{{targets: ["{target}"]}}]
"""


def missing(ours, theirs, path=""):
    """Everything in `ours` that is not in `theirs`."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            yield from missing(value, theirs.get(key), f"{path}.{key}") if isinstance(theirs, dict) else [path]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs)):
            yield from missing(one, other, f"{path}[{number}]")
    elif ours != theirs:
        yield path


def test_grafana_knows_each_field_of_the_dashboard():
    plugins.register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert list(missing(DASHBOARD, read)) == []


def test_no_panel_covers_another_one():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    rows = sorted({y for _, y in cells})
    assert all(below == above + 1 for above, below in pairwise(rows))


class Prometheus:
    def __init__(self, directory, relay):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        self.config = directory / "prometheus.yml"
        target = "{}:{}".format(*relay.address_in_log("serving metrics"))
        self.config.write_text(CONFIG.format(alerts=DEPLOY / "alerts.yml", target=target))
        self.log = directory / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.config}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    "--web.listen-address={}:{}".format(*self.address),
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path, **query):
        url = "http://{}:{}/api/v1/{}?{}".format(*self.address, path, urlencode(query))
        try:
            with urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            if error.code == 503:  # It is starting.
                return None
            raise AssertionError(f"{query}: {error.read()}") from None
        except (URLError, ConnectionError):
            assert self.process.poll() is None, self.log.read_text()
            return None

    def query(self, expression):
        return self.get("query", query=expression)["result"]


@pytest.fixture
def prometheus(tmp_path):
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is missing")
    started = []

    def start(relay):
        started.append(Prometheus(tmp_path, relay))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def plain(expression):
    """The expression without the dashboard's variables."""
    for variable, value in {"$__rate_interval": "1m", "$job": "switchboard-relay", "$instance": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


async def test_prometheus_finds_each_series_of_the_dashboard_and_of_the_alerts(start, prometheus, files):
    relay = await start_with(start, files)
    server = prometheus(relay)
    await until(lambda: (server.get("query", query="switchboard_build_info") or {}).get("result"))
    await relay.pair()
    await until(lambda: server.query("rate(switchboard_upgrades_total[1m])"))
    # A new certificate is valid for longer than the alert's limit.
    assert server.query("switchboard_certificate_expiry_timestamp_seconds - time() > 0")
    empty = [
        target["expr"]
        for panel in PANELS
        for target in panel["targets"]
        if not server.query(plain(target["expr"]))
    ]
    assert empty == []
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    await until(lambda: all(rule["health"] == "ok" for rule in rules))
    for rule in rules:
        for series in set(re.findall(r"\b(?:up|switchboard_\w+|process_\w+)\b", rule["query"])):
            assert server.query(series), f"{rule['name']}: {series}"
    variables = [it["query"]["query"] for it in DASHBOARD["templating"]["list"] if it["type"] == "query"]
    for variable in variables:
        series = re.fullmatch(r"label_values\((.*), \w+\)", variable)[1]
        assert server.query(plain(series)), variable


async def test_an_alert_fires(start, prometheus, tmp_path):
    relay = await start(max_connections=1, max_per_address=0)
    server = prometheus(relay)
    await relay.connect("/v1/server", {"X-Pyrycode-Server": "a", "X-Pyrycode-Version": "1", "User-Agent": "test"})

    def pending():
        alerts = (server.get("alerts") or {}).get("alerts", [])
        return [alert for alert in alerts if alert["labels"]["alertname"] == "SwitchboardNearlyFull"]

    (alert,) = await until(pending)
    assert alert["annotations"]["summary"].endswith("has taken 100% of its connections")
