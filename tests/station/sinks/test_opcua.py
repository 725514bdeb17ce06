"""The OPC UA sink with asyncua's own client."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from adq_edge.core.errors import AdqError
from adq_edge.station.sinks.opcua import NAMESPACE, OpcUaOptions, OpcUaSink
from adq_edge.station.tables import Place, parse_table
from factories.brokers import free_port
from factories.station_parts import View, message, record_of

asyncua = pytest.importorskip("asyncua")


def sink_of(**keys: Any) -> OpcUaSink:
    table = {"port": free_port(), **keys}
    return OpcUaSink("plc", parse_table(OpcUaOptions, table, Place("station.toml", Path(), "sinks.plc")))


@contextlib.contextmanager
def serving(view: View, **keys: Any) -> Iterator[OpcUaSink]:
    sink = sink_of(**keys)
    sink.check()
    sink.attach(view)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


async def connected(sink: OpcUaSink, work: Any, **credentials: str) -> Any:
    client = asyncua.Client(sink.describe(), timeout=10)
    if credentials:
        client.set_user(credentials["username"])
        client.set_password(credentials["password"])
    async with client:
        index = await client.get_namespace_index(NAMESPACE)
        return await work(client, index)


def values_of(sink: OpcUaSink, *names: str, **credentials: str) -> List[Any]:
    async def read(client: Any, index: int) -> List[Any]:
        return [await client.get_node(f"ns={index};s={name}").read_value() for name in names]

    return list(asyncio.run(connected(sink, read, **credentials)))


@pytest.fixture(scope="module")
def plc() -> Iterator[Tuple[OpcUaSink, View]]:
    view = View("top", "side")
    with serving(view) as sink:
        yield sink, view


def test_nodes_have_the_last_verdict_the_counts_and_the_health(plc: Tuple[OpcUaSink, View]) -> None:
    sink, view = plc
    assert sink.send([message(1), message(2, verdict="defective"), message(1, "side", product=None)]) == 3
    assert sink.send([message(3, verdict="cannot judge", normalized_score=None, reason="blurred")]) == 1
    assert sink.send([message(1, source="of an earlier file")]) == 1
    names = ["Verdict", "Id", "Sequence", "Reason", "Count.good", "Count.defective", "Count.cannot judge"]
    top = values_of(sink, *(f"top.{name}" for name in names))
    assert top == ["cannot judge", record_of(3)["id"], 3, "blurred", 1, 1, 1]
    assert values_of(sink, "side.Verdict", "side.Product", "side.LatencyMs") == ["good", "", 20.5]
    assert math.isnan(values_of(sink, "top.Score")[0])
    assert values_of(sink, "Name", "Health", "Problems") == ["press 4", "running", []]
    view.conditions.report("source top", "no image since 5 s")
    assert values_of(sink, "Health", "Problems") == ["degraded", ["source top: no image since 5 s"]]


def test_a_client_hears_of_each_verdict_and_may_not_write(plc: Tuple[OpcUaSink, View]) -> None:
    sink = plc[0]

    class Handler:
        def __init__(self) -> None:
            self.seen: List[Any] = []
            self.done = asyncio.Event()

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            self.seen.append(value)
            if len(self.seen) == 6:
                self.done.set()

    async def subscribe(client: Any, index: int) -> List[Any]:
        handler = Handler()
        subscription = await client.create_subscription(10, handler)
        node = client.get_node(f"ns={index};s=top.Id")
        await subscription.subscribe_data_change(node, queuesize=100)
        messages = [message(number) for number in range(1, 6)]
        await asyncio.get_running_loop().run_in_executor(None, sink.send, messages)
        await asyncio.wait_for(handler.done.wait(), 10)
        with pytest.raises(asyncua.ua.UaStatusCodeError):
            await node.write_value("forged")
        return handler.seen

    seen = asyncio.run(connected(sink, subscribe))
    assert seen[1:] == [message(number).id for number in range(1, 6)]


def test_a_password_is_needed_where_one_is_set_and_the_port_is_free_at_the_end() -> None:
    with serving(View("top"), username="plc", password="correct horse") as sink:
        assert values_of(sink, "Name", username="plc", password="correct horse") == ["press 4"]
        for credentials in ({}, {"username": "plc", "password": "wrong"}):
            with pytest.raises(Exception, match=r"(?i)denied|identity|rejected|invalid"):
                values_of(sink, "Name", **credentials)
    sink.check()


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sink = sink_of(port=port)
        with pytest.raises(AdqError, match=f"opc.tcp://127.0.0.1:{port}/adq-edge: cannot listen there"):
            sink.check()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"host": "0.0.0.0"}, "host 0.0.0.0 lets other machines in, which needs username and password"),
        ({"username": "plc"}, "username and password belong together"),
        ({"certificate": "c.pem"}, "certificate and key belong together"),
        ({"port": 0}, "port is 0, not 1 to 65535"),
    ],
)
def test_impossible_keys_are_refused(keys: Dict[str, Any], problem: str) -> None:
    with pytest.raises(AdqError) as found:
        sink_of(**keys)
    assert problem in str(found.value)
