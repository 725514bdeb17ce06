"""A study's configuration, its checks, its matrix, and the published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adq_edge.core.errors import AdqError
from adq_edge.core.options import Device
from adq_edge.study.checks import check_config
from adq_edge.study.config import StudyConfig, Training, Variant
from adq_edge.study.config_file import read_config
from adq_edge.study.data import CategoryData, StudyData
from adq_edge.study.matrix import Cell, cells_of
from adq_edge.study.published import PUBLISHED, published
from adq_edge.study.results import CellState, StudyResult
from adq_edge.study.specs import Specs
from adq_edge.study.tables import study_tables


def written(folder: Path, **values: object) -> Path:
    path = folder / "study.json"
    path.write_text(json.dumps({"data": ".", **values}))
    return path


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"epochz": 1}, "unknown field: epochz"),
        ({"calibrators": "lp"}, "calibrators is not a list [...]"),
        ({"methods": ["stfpm"]}, "methods is not an object {...}"),
        ({"methods": {"stfpm": {"epochs": "many"}}}, "methods.epochs is not a whole number"),
        ({"methods": {"stfpm": {"epochs": 0}}}, "stfpm: epochs: needs 1 or more"),
        (
            {"methods": {"patchcore": {}}},
            "no method named 'patchcore'. Known methods: paste, reverse-distillation",
        ),
        ({"methods": {"stfpm": {"finished": {"uni": "."}}}}, "no finished model is called 'uni'"),
        ({"methods": {"stfpm": {"finished": {"unified": "gone"}}}}, "gone: no such file"),
        ({"seconds": "long"}, "seconds is not a number"),
        ({"trainings": {"both": ["fp32"]}}, "'both' is not a valid training. Use one of: unified, one-class"),
        ({"trainings": {"unified": ["fp8"]}}, "'fp8' is not a valid variant"),
        ({"devices": ["xavier"]}, "'xavier' is not a valid device"),
        ({"devices": ["rtx"]}, "built ahead of time, for another machine. Use cuda"),
        ({"devices": []}, "devices: nothing to study"),
        ({"runtime": "tensorrt"}, "tensorrt does not run on a CPU"),
        ({"calibrators": ["l2"]}, "no calibrator named 'l2'"),
        ({"sources": ["images,noise"]}, "no source named 'noise'"),
        ({"teacher_weights": "none.pth"}, "none.pth: no such file (the teacher's weights)"),
        ({"teacher_weights": "a" * 300}, "file name too long"),
        ({"image_size": 8}, "image_size: needs 32 pixels or more"),
        ({"image_size": 5000}, "image_size: the models' image size is 5000x5000 pixels; the limits are 1 to"),
        ({"trainings": {"unified": []}}, "trainings: no variant to study"),
        ({"seconds": float("inf")}, "not a JSON file"),
        ({"seconds": 10**400}, "too large for an integer"),
        ({"output": "\ud800"}, "not a JSON file"),
        ({"output": "a\0b"}, "output: needs a path without a NUL character"),
    ],
)
def test_study_rejects_invalid_configurations_before_any_work(values, complaint, tmp_path: Path):
    with pytest.raises(AdqError) as caught:
        check_config(read_config(written(tmp_path, **values)))
    assert complaint in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "study.json"]


def test_study_needs_a_dataset_or_quick():
    with pytest.raises(AdqError, match="Name a dataset with --data, or draw one with --quick"):
        check_config(read_config())
    check_config(read_config(quick=True))


def test_options_override_the_file_and_the_file_overrides_quick(tmp_path: Path):
    path = written(
        tmp_path, image_size=96, output="here", methods={"stfpm": {"epochs": 7}, "reverse-distillation": {}}
    )
    config = read_config(path, quick=True, methods=["reverse-distillation", "stfpm"], backbone="resnet50")
    assert (config.image_size, config.quick, config.teacher_weights) == (96, True, "demo")
    assert Path(config.output) == tmp_path / "here"  # relative to the file, not to the working directory
    assert list(config.methods) == ["reverse-distillation", "stfpm"]
    assert (config.methods["stfpm"].epochs, config.methods["stfpm"].batch_size) == (7, 8)
    assert config.methods["reverse-distillation"].options == {"backbone": "resnet50"}
    shorter = read_config(path, epochs=2, output="there")
    assert [method.epochs for method in shorter.methods.values()] == [2, 2]
    assert (shorter.output, shorter.methods["stfpm"].batch_size) == ("there", None)


def test_backbone_option_does_not_hide_wrong_options_in_the_file(tmp_path: Path):
    path = written(tmp_path, methods={"reverse-distillation": {"options": ["resnet18"]}})
    with pytest.raises(AdqError, match=r"methods\.options is not an object"):
        read_config(path, backbone="resnet18")


def test_name_of_a_finished_checkpoint_depends_on_teacher_size_and_images(tmp_path: Path):
    (tmp_path / "student.pt").write_bytes(b"student")
    (tmp_path / "teacher.pth").write_bytes(b"teacher")

    def name(train_sha256: str = "0", **values: object) -> str:
        finished = {"finished": {"unified": "student.pt"}}
        config = read_config(written(tmp_path, methods={"stfpm": finished}, **values))
        part = CategoryData("bolt", str(tmp_path), 1, 2, 1, train_sha256, "0")
        specs = Specs(config, StudyData(str(tmp_path), False, (part,)))
        (model,) = specs.models(Cell("stfpm", Training.UNIFIED, Variant.FP32, Device.CPU))
        return model.name

    names = [name(), name("1"), name(image_size=64), name(teacher_weights="teacher.pth")]
    assert len(set(names)) == len(names)
    assert name() == names[0] == name(seed=1)


def test_methods_accept_the_settings_of_a_quick_study():
    pytest.importorskip("torch")
    from adq_edge.models.config import ModelConfig
    from adq_edge.models.registry import method

    config = read_config(quick=True)
    size = (config.image_size, config.image_size)
    for name, settings in config.methods.items():
        method(name)(ModelConfig(image_size=size, options=settings.options))


def test_default_matrix_has_162_cells_with_fp32_first():
    """3 methods x 2 trainings x (FP32, FP16, 3 calibrators x 2 sources, QAT) x 3 devices."""
    cells = cells_of(StudyConfig())
    assert len(cells) == len(set(cells)) == len({cell.name for cell in cells}) == 3 * 2 * 9 * 3
    for cell in cells:
        assert cells.index(cell.baseline) <= cells.index(cell)


def test_published_figures_are_consistent():
    """File sizes add up; narrower number formats have smaller files and no slower engines."""
    parts_mb = {
        "uninformed-students": (6.7, 6.7, 6.7, 6.7),
        "reverse-distillation": (275.9, 269.3, 99.9),
        "stfpm": (44.0, 44.0),
    }
    for method in PUBLISHED:
        fp32, qat, half, gpu, gpu_int8 = (
            published(Cell(method, Training.UNIFIED, *kind))
            for kind in (
                (Variant.FP32, Device.CPU),
                (Variant.QAT, Device.CPU),
                (Variant.FP16, Device.JETSON),
                (Variant.FP32, Device.JETSON),
                (Variant.PTQ, Device.JETSON, "entropy", "images"),
            )
        )
        ptq = {
            source: published(Cell(method, Training.UNIFIED, Variant.PTQ, Device.CPU, "lp", source))
            for source in ("images", "random-normal", "synthetic-defects")
        }
        assert min(fp32.mb) - 0.05 <= sum(parts_mb[method]) <= max(fp32.mb) + 0.15, method
        assert qat.mb == ptq["images"].mb < fp32.mb
        assert gpu_int8.mb < half.mb < fp32.mb == gpu.mb
        assert max(ptq["images"].ms, qat.ms) < fp32.ms
        assert half.ms < gpu.ms < fp32.ms
        assert ptq["images"].auroc < ptq["random-normal"].auroc  # its second claim
        assert ptq["synthetic-defects"].auroc is None


def test_tables_of_a_study_without_calibration():
    cell = Cell("stfpm", Training.UNIFIED, Variant.QAT, Device.CPU)
    config = StudyConfig(trainings={"unified": ("int8-qat",)}, calibrators=())
    failed = CellState(cell, reason="no space", failed=True)
    rounding, left_out = study_tables(StudyResult("now", config, StudyData("parts", False, ()), (failed,)))
    row = dict(zip([column.heading for column in rounding.columns], rounding.texts[0]))
    assert (row["PTQ AUROC"], row["QAT AUROC"]) == ("-", "failed")
    assert left_out.rows == (("cpu", 1, "failed", "no space"),)
