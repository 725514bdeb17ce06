from __future__ import annotations

import functools
from pathlib import Path

from adq_edge.benchmark.bench import bench
from adq_edge.core.images.imaging import read_image
from adq_edge.report.tables.headline import summary_table
from adq_edge.study import demo as demo_module


def test_demo_builds_and_measures_and_a_second_run_does_not_train(dataset: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(demo_module, "TRAINED_IMAGES", 12)
    monkeypatch.setattr(demo_module, "IMAGE_SIZE", (64, 64))
    monkeypatch.setattr(demo_module, "bench", functools.partial(bench, queries=2, seconds=0))
    first = demo_module.demo(tmp_path, dataset)
    assert [row.engine.precision for row in first.rows] == ["fp32", "int8"]
    for row, path in zip(first.rows, first.engines):
        assert row.quality.engine.sha256 == row.engine.engine.sha256  # quality and speed of the same file
        assert path.is_file()
    assert len(summary_table(first.rows, first.caveat).rows) == 2
    assert "not to be quoted" in first.caveat
    assert read_image(first.heat_maps).shape[1] == 4 * 256
    checkpoint = tmp_path / "checkpoints" / f"stfpm-{dataset.name}.pt"
    before = checkpoint.read_bytes()
    second = demo_module.demo(tmp_path, dataset)
    assert checkpoint.read_bytes() == before
    assert second.rows[0].quality.scores == first.rows[0].quality.scores
