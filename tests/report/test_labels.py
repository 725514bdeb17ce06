"""Labels of engines: different, and as short as that allows."""

from __future__ import annotations

import dataclasses
import re
from typing import List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.report import charts
from adq_edge.report.labels import distinguish, label_entries, shorten_labels
from adq_edge.report.model import Device, Entry, Model
from adq_edge.report.svg.elements import shorten_names
from factories import results as make

NAMES = st.text("ab-_. \u202e\x00#1,", max_size=6)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=8))
def test_labels_are_never_equal(items: List[Tuple[str, str, str]]):
    whole = distinguish(items)
    short = shorten_labels(whole)
    for labels in (whole, short, shorten_names(short, 60.0)):
        assert len(set(labels)) == len(items)
        assert all(label.strip() for label in labels)
    assert sum(map(len, short)) <= sum(map(len, whole))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["parts-fp32"], ["parts-fp32"]),
        (["line-parts-fp32", "line-parts-int8"], ["fp32", "int8"]),
        (["a-resnet18-fp32", "b-resnet18-int8"], ["a \u2026 fp32", "b \u2026 int8"]),
        (["parts", "parts-int8"], ["parts", "parts-int8"]),
        (["stfpm-parts-int8", "rd-parts-int8"], ["stfpm", "rd"]),
    ],
)
def test_labels_leave_out_what_all_names_have_in_common(names: List[str], labels: List[str]):
    assert shorten_labels(names) == labels


def test_equal_names_get_the_detail_that_differs():
    same = [
        make.engine("int8", name="parts-int8", runtime=runtime) for runtime in ("onnxruntime", "openvino")
    ]
    entries = [Entry("PC", make.bench_report([engine])) for engine in same]
    assert label_entries(entries) == ["onnxruntime", "openvino"]
    again = dataclasses.replace(entries[0].report, created="2026-11-21T11:00:00+00:00")
    later = [entries[0], Entry("PC", again)]
    assert label_entries(later) == ["2026-11-20 10:00 UTC", "2026-11-21 11:00 UTC"]
    assert len(set(label_entries([entries[0], entries[0]]))) == 2


@settings(deadline=None, max_examples=20)
@given(st.lists(NAMES, min_size=1, max_size=5))
def test_charts_tell_engines_apart(names: List[str]):
    """Engines of one file name and hash, measured alike, in every chart that names engines."""
    engines = [dataclasses.replace(ENGINE, name=name) for name in names]
    entries = tuple(Entry("PC", make.bench_report([one]), make.evaluation(one)) for one in engines)
    devices = [Device("PC", (), (Model("m", entries),))]
    (bubbles,) = charts.bubble_charts(devices)
    assert len({line.split(": AUROC")[0] for line in bubbles.key}) == len(names)
    for drawn in (charts.latency_charts, charts.stage_charts, charts.memory_charts):
        (chart,) = drawn(devices)
        shown = re.findall(r'class="name">(?:<title>[^<]*</title>)?([^<]*)<', chart.body)
        assert len(shown) == len(set(shown)) == len(names)
    curves = list(map(make.evaluation, engines))
    titles = [chart.title for chart in charts.cost_charts(curves)]
    assert len(set(titles)) == len(titles) == len(names)


ENGINE = make.engine("int8")
