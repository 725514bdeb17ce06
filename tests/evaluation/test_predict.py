"""`predict` on small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adq_edge.core.errors import DataError, EngineError
from adq_edge.core.imaging import read_image
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.evaluation.predict import predict
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine
from adq_edge.runtimes.registry import load_engine
from factories.images import SIZE


def test_predict_returns_scores_decisions_and_heat_maps(engine: Path, dataset: Path, tmp_path: Path):
    evaluation = evaluate(engine, dataset, output=tmp_path / "r.json")
    folder = dataset / "part0" / "test" / "spot"
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    with load_engine(engine) as loaded:
        results = list(predict(loaded, [folder, bad, tmp_path / "none.png"], output=tmp_path / "maps"))
    scores = {row.image: row.score for row in evaluation.scores}
    for result in results[:3]:
        assert result.score == scores[result.image]
        assert result.anomalous == (result.score >= evaluation.threshold)
        assert read_image(Path(result.heat_map)).shape == (SIZE, SIZE, 3)
    assert [result.error is None for result in results] == [True] * 3 + [False] * 2
    assert "not a readable image" in results[3].error
    assert "no such file" in results[4].error


def test_heat_maps_of_equal_names_are_kept_apart(engine: Path, dataset: Path, tmp_path: Path):
    images = sorted(dataset.rglob("test/*/000.png"))
    with load_engine(engine) as loaded:
        results = list(predict(loaded, images, output=tmp_path / "maps"))
    assert len({result.heat_map for result in results}) == len(images) == 4
    assert all(result.anomalous is None for result in results)  # no threshold before `eval`


def test_predict_rejects_an_empty_folder(engine: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with load_engine(engine) as loaded, pytest.raises(DataError, match="no images in this folder"):
        list(predict(loaded, [tmp_path / "empty"]))


@pytest.mark.parametrize("bad", ["maps", "scores"])
def test_predict_rejects_non_finite_scores_and_maps(
    engine: Path, dataset: Path, tmp_path: Path, monkeypatch, bad: str
):
    run = OnnxRuntimeEngine._run

    def spoil(loaded: OnnxRuntimeEngine, images: np.ndarray) -> Output:
        output = run(loaded, images)
        return output._replace(**{bad: getattr(output, bad) * np.nan})

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", spoil)
    image = dataset / "part0" / "test" / "spot" / "000.png"
    with load_engine(engine) as loaded, pytest.raises(EngineError, match=r"000\.png is NaN"):
        list(predict(loaded, [image], output=tmp_path / "maps"))
    assert not (tmp_path / "maps").exists()
