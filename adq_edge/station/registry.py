"""Sources, sinks and services by the name that a station file gives: built in, or of an installed package."""

from __future__ import annotations

import functools
from typing import Any, Mapping, Sequence

from adq_edge.core.errors import StationError
from adq_edge.core.plugins import load_factory, plugin_names

SOURCE, SINK, SERVICE = "source", "sink", "service"

_GROUP = "adq_edge.station.{}s"
"""Entry-point group of installed packages."""
_BUILT_IN: Mapping[str, Mapping[str, str]] = {
    SOURCE: {
        "calls": "adq_edge.station.sources.calls:CallSource",
        "camera": "adq_edge.station.sources.camera:CameraSource",
        "folder": "adq_edge.station.sources.folder:FolderSource",
        "http": "adq_edge.station.sources.http:HttpSource",
        "mqtt": "adq_edge.station.sources.mqtt:MqttSource",
        "replay": "adq_edge.station.sources.replay:ReplaySource",
        "stdin": "adq_edge.station.sources.stdin:StdinSource",
    },
    SINK: {
        "images": "adq_edge.station.sinks.images:ImageSink",
        "json-lines": "adq_edge.station.sinks.json_lines:JsonLinesSink",
        "mqtt": "adq_edge.station.sinks.mqtt:MqttSink",
        "opcua": "adq_edge.station.sinks.opcua:OpcUaSink",
        "rest": "adq_edge.station.sinks.rest:RestSink",
        "webhook": "adq_edge.station.sinks.webhook:WebhookSink",
    },
    SERVICE: {
        "health": "adq_edge.station.services.health:HealthService",
        "web": "adq_edge.station.services.web.service:WebService",
    },
}
"""`module:class` by the name in the station file; the name of a service is that of its table."""


@functools.lru_cache(maxsize=None)
def names_of(kind: str) -> Sequence[str]:
    """Return the names of all sources, sinks or services, sorted; packages are searched once."""
    return plugin_names(_GROUP.format(kind), _BUILT_IN[kind])


@functools.lru_cache(maxsize=None)
def find_class(kind: str, name: str) -> Any:
    """Return the class of a source, sink or service.

    Args:
        kind: `SOURCE`, `SINK` or `SERVICE`.
        name: its name in the station file.

    Raises:
        StationError: there is none of this name, or its package cannot be imported.
    """
    return load_factory(kind, name, _GROUP.format(kind), _BUILT_IN[kind], StationError)
