"""`Metrics`: counts, as Prometheus reads them, and as OpenTelemetry takes them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.plugin import hooks

Labels = tuple[tuple[str, str], ...]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
COUNTERS = {
    "sandlot_starts_total": "Machines that were started.",
    "sandlot_stops_total": "Sandboxes that stopped.",
    "sandlot_execs_total": "Commands that ended, by whether they failed.",
    "sandlot_exec_cpu_seconds_total": "Seconds of the processor of commands that ended.",
    "sandlot_flows_total": "Connections, datagrams and questions of the DNS, by their verdict.",
    "sandlot_sent_bytes_total": "Bytes that the guest sent.",
    "sandlot_received_bytes_total": "Bytes that the guest received.",
    "sandlot_http_requests_total": "Requests that the gateway read.",
    "sandlot_secret_uses_total": "Placeholders of secrets in requests, by whether they were replaced.",
    "sandlot_snapshots_total": "Snapshots and forks that were asked for.",
    "sandlot_refusals_total": "What plugins refused.",
}
RUNNING = "sandlot_running"
DURATION = "sandlot_exec_seconds"


class Metrics:
    """Counts what sandboxes do.

        metrics = Metrics()
        sb = await Sandbox.create(image="demo", plugins=[metrics])
        print(metrics.render())

    Args:
        file: where the text is written when a sandbox stops and after each command, for a collector
            of text files. Replaced as a whole.
        per_sandbox: give each sandbox a label of its own; many short-lived ones make many series.
        opentelemetry: count with OpenTelemetry's meter too; needs `sandlot[opentelemetry]`.
    """

    name = "metrics"

    def __init__(
        self, *, file: str | os.PathLike[str] | None = None, per_sandbox: bool = False,
        opentelemetry: bool = False,
    ) -> None:  # fmt: skip
        self._file = Path(file).absolute() if file is not None else None
        self._per_sandbox = per_sandbox
        self._counts: dict[str, dict[Labels, float]] = {
            name: defaultdict(float) for name in COUNTERS
        }
        self._running: dict[str, bool] = {}
        self._buckets: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = defaultdict(float)
        self._meters = _instruments() if opentelemetry else {}

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> Metrics:
        """`metrics=FILE`."""
        if not argument:
            raise ConfigError("metrics needs a file", hint="use metrics=sandlot.prom")
        return cls(file=folder / argument)

    def _labels(self, sandbox: str, **more: str) -> Labels:
        if self._per_sandbox:
            more = {"sandbox": sandbox, **more}
        return tuple(sorted(more.items()))

    def _add(self, name: str, sandbox: str, value: float = 1.0, **more: str) -> None:
        labels = self._labels(sandbox, **more)
        self._counts[name][labels] += value
        if name in self._meters:
            self._meters[name].add(value, dict(labels))

    def on_start(self, ctx: hooks.StartContext) -> None:
        self._running[ctx.sandbox] = True
        self._add("sandlot_starts_total", ctx.sandbox, kind=ctx.kind)

    def on_stop(self, ctx: hooks.StopContext) -> None:
        self._running.pop(ctx.sandbox, None)
        self._add("sandlot_stops_total", ctx.sandbox)
        self._write()

    def on_exec_end(self, ctx: hooks.ExecEndContext) -> None:
        failed = "false" if ctx.exit_code == 0 else "true"
        self._add("sandlot_execs_total", ctx.sandbox, failed=failed)
        cpu = max(0.0, ctx.user_time) + max(0.0, ctx.system_time)
        self._add("sandlot_exec_cpu_seconds_total", ctx.sandbox, cpu)
        labels = self._labels(ctx.sandbox)
        counts = self._buckets.setdefault(labels, [0] * (len(SECONDS) + 1))
        for place, most in enumerate(SECONDS):
            counts[place] += ctx.duration <= most
        counts[-1] += 1
        self._sums[labels] += ctx.duration
        if DURATION in self._meters:
            self._meters[DURATION].record(ctx.duration, dict(labels))
        self._write()

    def on_flow(self, ctx: hooks.FlowContext) -> None:
        record = ctx.record
        if record.verdict == "open":
            return
        protocol = record.protocol if record.protocol in ("tcp", "udp", "dns") else "other"
        self._add("sandlot_flows_total", ctx.sandbox, protocol=protocol, verdict=record.verdict)
        if record.sent:
            self._add("sandlot_sent_bytes_total", ctx.sandbox, record.sent)
        if record.received:
            self._add("sandlot_received_bytes_total", ctx.sandbox, record.received)

    def on_http_request(self, ctx: hooks.HttpRequestContext) -> None:
        known = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT")
        method = ctx.method if ctx.method in known else "other"  # a guest may invent as many
        self._add("sandlot_http_requests_total", ctx.sandbox, method=method)

    def on_secret_use(self, ctx: hooks.SecretUseContext) -> None:
        replaced = str(ctx.replaced).lower()
        self._add("sandlot_secret_uses_total", ctx.sandbox, secret=ctx.secret, replaced=replaced)

    def on_snapshot(self, ctx: hooks.SnapshotContext) -> None:
        self._add("sandlot_snapshots_total", ctx.sandbox, kind=ctx.kind)

    def on_refused(self, ctx: hooks.RefusedContext) -> None:
        self._add("sandlot_refusals_total", ctx.sandbox, plugin=ctx.plugin, hook=ctx.refused)

    # -- Prometheus ------------------------------------------------------------------------

    def render(self) -> str:
        """All of it in Prometheus' text format."""
        lines = [
            f"# HELP {RUNNING} Sandboxes that run.", f"# TYPE {RUNNING} gauge",
            f"{RUNNING} {len(self._running)}",
        ]  # fmt: skip
        for name, text in COUNTERS.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            lines += _samples(name, self._counts[name].items())
        lines += [f"# HELP {DURATION} How long commands ran.", f"# TYPE {DURATION} histogram"]
        for labels, counts in sorted(self._buckets.items()):
            for most, count in zip((*SECONDS, "+Inf"), counts, strict=True):
                lines += _samples(f"{DURATION}_bucket", [((*labels, ("le", str(most))), count)])
            lines += _samples(f"{DURATION}_sum", [(labels, self._sums[labels])])
            lines += _samples(f"{DURATION}_count", [(labels, counts[-1])])
        return "\n".join(lines) + "\n"

    def _write(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            fresh.write_text(self.render())
            fresh.replace(self._file)


def _samples(name: str, values: Iterable[tuple[Labels, float]]) -> list[str]:
    lines = []
    for labels, value in sorted(values):
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        lines.append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _instruments() -> dict[str, Any]:
    try:
        from opentelemetry import metrics
    except ImportError:
        raise ConfigError(
            "opentelemetry=True needs the package opentelemetry-api",
            hint="use `pip install 'sandlot[opentelemetry]'`",
        ) from None
    meter = metrics.get_meter("sandlot", version("sandlot"))
    found: dict[str, Any] = {
        name: meter.create_counter(name.removesuffix("_total"), description=text)
        for name, text in COUNTERS.items()
    }
    found[DURATION] = meter.create_histogram(
        DURATION, unit="s", description="How long commands ran."
    )
    return found
