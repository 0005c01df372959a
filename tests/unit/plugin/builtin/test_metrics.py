"""Counts as text for Prometheus, and into OpenTelemetry's meter."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sandlot import (
    ConfigError,
    ExecEndContext,
    FlowContext,
    FlowRecord,
    HttpRequestContext,
    RefusedContext,
    SecretUseContext,
    SnapshotContext,
    StartContext,
    StopContext,
)
from sandlot.network.flow import Flow
from sandlot.plugin.builtin.metrics import COUNTERS, Metrics

START = StartContext(sandbox="box", id="1", image="demo")
END = ExecEndContext(
    sandbox="box", id=1, argv=("ls",), exit_code=0, duration=0.2, user_time=0.1, system_time=0.02
)
SAMPLE = re.compile(r'^[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+]+$')


def fed(metrics: Metrics) -> Metrics:
    flow = Flow("tcp", None, 443, "a.example")  # type: ignore[arg-type]
    record: dict[str, Any] = {
        "id": 1,
        "time": 1.0,
        "protocol": "tcp",
        "address": "1.1.1.1",
        "port": 1,
    }
    metrics.on_start(START)
    metrics.on_exec_end(END)
    metrics.on_flow(FlowContext(sandbox="box", record=FlowRecord(**record)))
    done = FlowRecord(**record, verdict="closed", sent=5, received=7)
    metrics.on_flow(FlowContext(sandbox="box", record=done))
    metrics.on_http_request(
        HttpRequestContext(
            sandbox="box", flow=flow, method='X"\n', target="/", authority="a", version="1.1"
        )
    )
    metrics.on_secret_use(
        SecretUseContext(sandbox="box", flow=flow, secret="K", host="a", place="p", replaced=True)
    )
    metrics.on_snapshot(SnapshotContext(sandbox="box"))
    metrics.on_refused(
        RefusedContext(
            sandbox="box", refused="on_exec", plugin='a"b\\c\nd', about="ls", reason="no"
        )
    )
    return metrics


def test_the_text_is_what_prometheus_reads() -> None:
    text = fed(Metrics()).render()
    for line in text.splitlines():
        assert line.startswith("# ") or SAMPLE.match(line.replace(r"\"", "")), line
    absent = {"sandlot_stops_total"}
    for name in COUNTERS:
        assert f"# TYPE {name} counter" in text and (
            name in absent or re.search(rf"^{name}[ {{]", text, re.M)
        )
    for line in (
        "sandlot_running 1", 'sandlot_execs_total{failed="false"} 1',
        'sandlot_flows_total{protocol="tcp",verdict="closed"} 1', "sandlot_sent_bytes_total 5",
        'sandlot_http_requests_total{method="other"} 1', 'sandlot_exec_seconds_bucket{le="0.1"} 0',
        'sandlot_exec_seconds_bucket{le="0.25"} 1', 'sandlot_exec_seconds_bucket{le="+Inf"} 1',
        "sandlot_exec_seconds_sum 0.2", "sandlot_exec_seconds_count 1",
        r'sandlot_refusals_total{hook="on_exec",plugin="a\"b\\c\nd"} 1',
    ):  # fmt: skip
        assert line in text.splitlines(), line


def test_a_sandbox_may_have_a_label(tmp_path: Path) -> None:
    metrics = fed(Metrics(file=tmp_path / "new" / "m.prom", per_sandbox=True))
    metrics.on_stop(StopContext(sandbox="box"))
    text = (tmp_path / "new" / "m.prom").read_text()
    assert 'sandlot_execs_total{failed="false",sandbox="box"} 1' in text
    assert "sandlot_running 0" in text
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["m.prom"]


def test_opentelemetry_counts_too() -> None:
    from opentelemetry import metrics as otel
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    otel.set_meter_provider(MeterProvider(metric_readers=[reader]))
    fed(Metrics(opentelemetry=True))
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    assert {"sandlot_execs", "sandlot_exec_seconds", "sandlot_refusals"} <= set(found)
    (point,) = found["sandlot_execs"].data.data_points
    assert dict(point.attributes or {}) == {"failed": "false"}


def test_without_its_package_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError) as caught:
        Metrics(opentelemetry=True)
    assert "sandlot[opentelemetry]" in caught.value.hint


def test_its_argument_is_a_file(tmp_path: Path) -> None:
    fed(Metrics.from_argument("m.prom", tmp_path))
    assert (tmp_path / "m.prom").exists()
    with pytest.raises(ConfigError):
        Metrics.from_argument("", tmp_path)
