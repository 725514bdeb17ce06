from __future__ import annotations

import numpy as np
import pytest
import torch

from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.models.teacher import DEMO_TEACHER
from tools.demo_teacher.images import ImageGenerator
from tools.demo_teacher.materials import make_material
from tools.demo_teacher.textures import TEXTURES
from tools.demo_teacher.train import Progress, Recipe, Trainer, normalize, save_teacher, train

MATERIALS = 14


def reference():
    """Return a trunk to imitate."""
    torch.manual_seed(11)
    return ResNet18Trunk()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    generator = ImageGenerator(seed=7, size=256, materials=MATERIALS, sheet=128)
    return normalize(torch.from_numpy(generator.batch(8)))


@pytest.fixture(scope="module")
def shipped():
    return torch.load(str(DEMO_TEACHER), map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def features(shipped, images):
    trunk = ResNet18Trunk()
    trunk.load_state_dict(shipped, strict=True)
    with torch.no_grad():
        return trunk.eval()(images)


class TestShippedWeights:
    def test_file_has_at_most_6_mb(self):
        assert DEMO_TEACHER.stat().st_size <= 6.0e6

    def test_weights_are_finite_float16(self, shipped):
        assert {tensor.dtype for tensor in shipped.values()} == {torch.float16}
        assert all(bool(torch.isfinite(tensor).all()) for tensor in shipped.values())

    def test_features_are_finite_and_of_moderate_size(self, features):
        for feature in features:
            assert torch.isfinite(feature).all()
            assert feature.max() < 200
            assert 0.05 < feature.mean() < 10

    def test_every_channel_is_active(self, features):
        for feature in features:
            assert (feature.amax((0, 2, 3)) > 0).all()

    def test_variance_is_spread_over_more_than_four_components(self, features):
        for feature in features:
            variances = torch.linalg.eigvalsh(torch.cov(feature.permute(1, 0, 2, 3).flatten(1)))
            assert variances.sum() ** 2 / variances.square().sum() > 4


class TestImages:
    def test_equal_seeds_give_equal_images(self):
        first, second = (ImageGenerator(seed=3, size=64, materials=MATERIALS, sheet=64) for _ in range(2))
        for _ in range(2):
            np.testing.assert_array_equal(first.batch(6), second.batch(6))

    def test_different_seeds_give_different_images(self):
        first, second = (ImageGenerator(seed=s, size=64, materials=MATERIALS, sheet=64) for s in (3, 4))
        assert (first.batch(4) != second.batch(4)).any()

    def test_images_vary_in_brightness_and_texture(self):
        batch = ImageGenerator(seed=5, size=96, materials=MATERIALS, sheet=64).batch(40)
        assert (batch.shape, batch.dtype) == ((40, 96, 96, 3), np.uint8)
        assert batch.std((1, 2, 3)).min() > 0
        assert batch.mean((1, 2, 3)).std() > 15

    @pytest.mark.parametrize("number", range(len(TEXTURES)))
    def test_sheets_of_a_material_differ_only_with_the_chance_generator(self, number):
        one, same, other = (
            make_material(0, number, np.random.default_rng(chance), 96) for chance in (1, 1, 2)
        )
        assert one.std() > 0
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


class TestTraining:
    def test_six_steps_reduce_the_loss(self):
        recipe = Recipe(materials=MATERIALS, learning_rate=1e-3)
        trainer = Trainer(recipe, reference())
        batch = torch.from_numpy(ImageGenerator(seed=1, size=64, materials=MATERIALS, sheet=64).batch(8))
        losses = [trainer.step(batch, done=0.1) for _ in range(6)]
        assert losses[-1] < 0.8 * losses[0]

    def test_saved_weights_load_strictly_and_give_the_same_features(self, tmp_path, images):
        trunk = ResNet18Trunk()
        trunk(images[:4])
        save_teacher(trunk, tmp_path / "teacher.pt")
        loaded = ResNet18Trunk()
        loaded.load_state_dict(torch.load(str(tmp_path / "teacher.pt"), weights_only=True), strict=True)
        with torch.no_grad():
            for ours, theirs in zip(trunk.eval()(images[:2]), loaded.eval()(images[:2])):
                assert (ours - theirs).norm() < 1e-2 * ours.norm()

    def test_training_reports_progress_and_writes_a_teacher(self, tmp_path):
        recipe = Recipe(minutes=0.01, size=32, final_part=0.0, batch=4, materials=4)
        seen = []
        train(recipe, reference(), tmp_path / "teacher.pt", seen.append)
        assert isinstance(seen[-1], Progress)
        assert seen[-1].images > 0
        ResNet18Trunk().load_state_dict(torch.load(str(tmp_path / "teacher.pt"), weights_only=True))
