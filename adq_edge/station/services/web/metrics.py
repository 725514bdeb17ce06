"""The station's figures for Prometheus."""

from __future__ import annotations

from typing import Any, Iterator, Tuple

from adq_edge.core.version import __version__
from adq_edge.station.events import Decided
from adq_edge.station.libraries import import_library
from adq_edge.station.view import StationView

_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of a station; all names start with `adq_edge_`.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self, station: StationView) -> None:
        self._library = import_library("prometheus_client", "Prometheus", "prometheus-client")
        self._core = import_library("prometheus_client.core", "Prometheus", "prometheus-client")
        self._station = station
        self._registry = self._library.CollectorRegistry()
        self._latency = self._library.Histogram(
            "adq_edge_latency_seconds",
            "Time from trigger to verdict.",
            ["source"],
            registry=self._registry,
            buckets=_BUCKETS_S,
        )
        self._registry.register(self)

    def observe(self, decided: Decided) -> None:
        """Count a verdict's latency."""
        self._latency.labels(decided.frame.source).observe(decided.latency_ms / 1e3)

    def text(self) -> Tuple[bytes, str]:
        """Return the metrics in Prometheus's text format, and its media type."""
        return self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST

    def describe(self) -> Iterator[Any]:
        """Return nothing, so that the registry does not collect before the station has started."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Yield the figures of the station."""
        found = self._station.snapshot()
        yield self._gauge(
            "info",
            "Version and name.",
            {(__version__, self._station.config.station.name): 1},
            "version",
            "station",
        )
        yield self._gauge(
            "start_time_seconds", "Start of the station, in seconds since 1970.", {(): found.started}
        )
        yield self._counter("triggers", "Triggers that were accepted.", {(): found.accepted})
        verdicts = {
            (source, verdict): count
            for source, counts in found.verdicts.items()
            for verdict, count in counts.items()
        }
        yield self._counter("verdicts", "Verdicts.", verdicts, "source", "verdict")
        products = {
            (product, verdict): count
            for product, counts in found.products.items()
            for verdict, count in counts.items()
        }
        yield self._counter("product_verdicts", "Verdicts of each product.", products, "product", "verdict")
        yield self._counter(
            "deadlines_missed", "Verdicts without a result by the deadline.", {(): found.missed}
        )
        yield self._counter("images_replaced", "Images that a full queue did not take.", {(): found.replaced})
        yield self._counter("failures", "Images whose judgment failed.", {(): found.failed})
        queued = {(source,): count for source, count in found.queued.items()}
        yield self._gauge("queue_images", "Images that wait for an engine.", queued, "source")
        waiting = {(sink,): count for sink, count in found.waiting.items()}
        yield self._gauge("sink_waiting", "Verdicts that wait for a sink.", waiting, "sink")
        refused = {(sink,): count for sink, count in found.refused.items()}
        yield self._counter("sink_refused", "Verdicts that a sink's peer has refused.", refused, "sink")
        yield self._gauge(
            "unstored", "Verdicts that are in memory only: the disk is full.", {(): found.unstored}
        )
        yield self._counter("lost", "Verdicts that could not be kept.", {(): found.lost})
        problems = {(one.subject,): 1 for one in found.conditions}
        yield self._gauge("problem", "A problem that the station has now.", problems, "subject")

    def _counter(self, name: str, text: str, values: Any, *labels: str) -> Any:
        return _fill(self._core.CounterMetricFamily(f"adq_edge_{name}", text, labels=labels), values)

    def _gauge(self, name: str, text: str, values: Any, *labels: str) -> Any:
        return _fill(self._core.GaugeMetricFamily(f"adq_edge_{name}", text, labels=labels), values)


def _fill(family: Any, values: Any) -> Any:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
