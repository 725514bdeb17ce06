"""The evaluation loop: outputs and masks of scored images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adq_edge.core.imaging import load_image, read_mask
from adq_edge.core.options import Precision
from adq_edge.datasets.mvtec import read_dataset
from adq_edge.evaluation.scoring import score_categories
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
