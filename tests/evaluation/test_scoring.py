"""The evaluation loop: outputs and masks of scored images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from adq_edge.core.images.imaging import load_image, read_mask
from adq_edge.core.options import Precision
from adq_edge.datasets.dataset import read_dataset
from adq_edge.evaluation.scoring import choose_dataset, score_categories, score_images
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


def test_image_without_a_mask_is_left_out_of_the_pixel_metrics_and_reported(
    engines, dataset: Path, tmp_path: Path, capsys
):
    shutil.copytree(str(dataset / "part0"), str(tmp_path / "part0"))
    (tmp_path / "part0" / "ground_truth" / "spot" / "001_mask.png").unlink()
    with load_engine(engines[Precision.FP32]) as engine:
        data = choose_dataset(engine, tmp_path, None)
        masks = {image.sample.path.parts[-2:]: image.mask for image in score_images([engine], data, "")}
    assert [name for name, mask in masks.items() if mask is None] == [("spot", "001.png")]
    assert sum(mask.any() for mask in masks.values() if mask is not None) == 2
    assert "note: part0: 1 of 3 defective test images have no mask" in capsys.readouterr().err
