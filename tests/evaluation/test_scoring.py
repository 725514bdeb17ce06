"""The evaluation loop: scored images, masks, and outputs that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adq_edge.core.errors import EngineError
from adq_edge.core.imaging import load_image, read_mask
from adq_edge.core.options import Precision
from adq_edge.datasets.mvtec import read_dataset
from adq_edge.evaluation.predict import predict
from adq_edge.evaluation.scoring import score_categories
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine
from adq_edge.runtimes.registry import load_engine
from factories.images import SIZE


def test_scored_images_have_outputs_and_masks(engines, dataset: Path):
    data = read_dataset(dataset, ["part1"])
    with load_engine(engines[Precision.FP32]) as a, load_engine(engines[Precision.INT8]) as b:
        ((name, scored),) = ((name, list(images)) for name, images in score_categories((a, b), data, ""))
        assert (name, [image.sample for image in scored]) == ("part1", list(data.categories[0].test))
        for image in scored:
            batch = load_image(image.sample.path, (SIZE, SIZE))[None]
            for engine, output in zip((a, b), image.outputs):
                np.testing.assert_array_equal(output.maps, engine.run(batch).maps)
                np.testing.assert_array_equal(output.scores, engine.run(batch).scores)
            good = np.zeros((SIZE, SIZE), bool)
            mask = good if image.sample.mask is None else read_mask(image.sample.mask)
            np.testing.assert_array_equal(image.mask, mask)


@pytest.mark.parametrize("bad", ["maps", "scores"])
def test_predict_rejects_non_finite_scores_and_maps(
    engines, dataset: Path, tmp_path: Path, monkeypatch, bad: str
):
    run = OnnxRuntimeEngine._run

    def spoil(engine: OnnxRuntimeEngine, images: np.ndarray) -> Output:
        output = run(engine, images)
        return output._replace(**{bad: getattr(output, bad) * np.nan})

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", spoil)
    image = dataset / "part0" / "test" / "spot" / "000.png"
    with load_engine(engines[Precision.FP32]) as engine, pytest.raises(EngineError, match=r"000\.png is NaN"):
        list(predict(engine, [image], output=tmp_path / "maps"))
    assert not (tmp_path / "maps").exists()
