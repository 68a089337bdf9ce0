"""docs/metrics.md has every metric there is and no other; alerts and dashboard ask for nothing else."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingress.cli import main
from worker import exposition, metrics

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")
PROMETHEUS, DASHBOARD = ROOT / "deploy/prometheus", ROOT / "deploy/grafana/payhook.json"

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]

#: Of a metric, by its name: what kind it is, and the labels that tell its values apart.
Shape = tuple[str, tuple[str, ...]]


def documented() -> dict[str, Shape]:
    """What the page's tables say."""
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in PAGE.splitlines()]
    return {
        row[0].strip("`"): (row[1], tuple(re.findall(r"`(\w+)`", row[2])))
        for row in cells
        if len(row) == 5 and row[0].startswith("`payhook_")
    }


def declared() -> dict[str, Shape]:
    """What the code has: the registry of counts, and the table of gauges."""
    registry: Any = metrics.REGISTRY
    counted = {
        f"{metric._name}_total" if metric._type == "counter" else metric._name: (metric._type, metric._labelnames)
        for metric in registry._collector_to_names
    }
    gauges = (*exposition.GAUGES, exposition.REACHABLE, exposition.BUILD)
    return counted | {gauge.name: ("gauge", gauge.labels) for gauge in gauges}


def asked_for(query: str) -> set[str]:
    """The metrics of ours in a query, by the names they are declared under."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bpayhook_\w+", query)}


def test_every_metric_is_documented_as_it_is() -> None:
    """Name, type and labels, in both directions; the keys' gauge is the ingress's own."""
    assert documented() == declared() | {"payhook_key_store_readable": ("gauge", ())}


def test_no_two_metrics_share_a_name() -> None:
    """A counter and a gauge that differ by `_total` alone could not be shown together."""
    assert len({name.removesuffix("_total") for name in declared()}) == len(declared())


@pytest.mark.parametrize("query", QUERIES + [rule["expr"] for rule in RULES])
def test_alerts_and_dashboard_ask_for_metrics_that_exist(query: str) -> None:
    """And for labels that those have."""
    labels = {label for name in asked_for(query) for label in documented()[name][1]} | {"le", "job"}
    named = re.findall(r"by \(([\w, ]+)\)", query)

    assert {label for group in named for label in group.split(", ")} | set(
        re.findall(r"(\w+)!?[=~]+\"", query)
    ) <= labels


def test_the_dashboard_shows_every_metric() -> None:
    """What nobody sees need not be counted. Whoever imports it chooses the data source."""
    (variable,) = json.loads(DASHBOARD.read_text())["templating"]["list"]

    assert {name for query in QUERIES for name in asked_for(query)} == set(documented())
    assert variable["type"] == "datasource"
    assert {panel["datasource"]["uid"] for panel in PANELS if panel["type"] != "row"} == {"${datasource}"}
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Acknowledgements",
        "Backlog",
        "Platform",
        "Operations",
        "Health",
    ]


def test_every_alert_is_documented_and_tested() -> None:
    """By its name; and tested both for coming and for staying away."""
    names = [rule["alert"] for rule in RULES]
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]

    assert re.findall(r"^\| `(Payhook\w+)`", PAGE, re.MULTILINE) == names
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(names)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_names_the_command_that_helps(rule: dict[str, Any]) -> None:
    """One of ours exists, or is one of the design's."""
    (command, *_) = re.findall(r"`([^`]+)`", rule["annotations"]["description"])
    words = command.split()

    assert rule["annotations"]["summary"]
    assert words[0] != "payhook" or words[1] in main.commands or f"`{words[1]}`" in DESIGN


@pytest.mark.parametrize(
    "check",
    [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"], ["check", "config", "prometheus.yml"]],
)
def test_prometheus_takes_what_we_ship(check: list[str]) -> None:
    """Its own tool reads the rules, runs their tests, and reads the example configuration."""
    done = subprocess.run(["promtool", *check], cwd=PROMETHEUS, capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
