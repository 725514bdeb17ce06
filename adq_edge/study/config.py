"""What a study is asked for: a JSON file, the small settings of `--quick`, and the command line's options.

    {
      "data": "mvtec", "output": "study", "teacher_weights": "resnet18.pth",
      "methods": {
        "stfpm": {"epochs": 60, "batch_size": 16, "finished": {"unified": "bundles/stfpm"}},
        "reverse-distillation": {"epochs": 12, "options": {"backbone": "resnet18"}}
      },
      "trainings": {"unified": ["fp32", "fp16", "int8-ptq", "int8-qat"], "one-class": ["fp32"]},
      "calibrators": ["lp", "entropy"], "sources": ["images", "random-normal"], "devices": ["cpu", "jetson"]
    }

All is optional but `data`; paths are relative to the file. The fields are those of `StudyConfig`.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from adq_edge.benchmark.results import QUOTABLE_QUERIES, QUOTABLE_SECONDS
from adq_edge.core.options import DEFAULT_SAMPLES

STUDY_METHODS = ("stfpm", "reverse-distillation", "uninformed-students")
DEMO = "demo"
"""The teacher that adq-edge ships."""


class Training(str, enum.Enum):
    """How many models share the categories."""

    UNIFIED = "unified"
    """One for all."""
    ONE_CLASS = "one-class"
    """One for each."""


class Variant(str, enum.Enum):
    """A precision, and for INT8 the way to it."""

    FP32 = "fp32"
    FP16 = "fp16"
    PTQ = "int8-ptq"
    """Quantized after training, once for each calibrator and source."""
    QAT = "int8-qat"
    """Trained with its rounding."""


_ALL_VARIANTS = tuple(variant.value for variant in Variant)


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """How one method's models come about; what is None is the method's own default, the study's number.

    Attributes:
        epochs: of the training.
        batch_size: images per step.
        learning_rate: of the method's optimizer.
        options: of the method, as `{"backbone": "resnet18"}`.
        teacher_weights: instead of the study's.
        qat_epochs: of the training with rounding.
        finished: models that need no training, a bundle or a checkpoint each: `unified`; `one-class`, a
            folder with one for each category, named CATEGORY or METHOD-CATEGORY (`.pt` for a checkpoint);
            `qat-cpu` and `qat-tensorrt`, the unified model trained with rounding.
    """

    epochs: Optional[int] = None
    batch_size: Optional[int] = None
    learning_rate: Optional[float] = None
    options: Mapping[str, Union[int, str]] = dataclasses.field(default_factory=dict)
    teacher_weights: Optional[str] = None
    qat_epochs: Optional[int] = None
    finished: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _study_methods() -> Dict[str, MethodConfig]:
    return {name: MethodConfig() for name in STUDY_METHODS}


def _all_trainings() -> Dict[str, Tuple[str, ...]]:
    return {training.value: _ALL_VARIANTS for training in Training}


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A whole study.

    Attributes:
        data: dataset in MVTec AD layout; None for the synthetic one, in a quick study alone.
        output: folder of everything that the study writes; another run of it goes on there.
        teacher_weights: the teachers' ResNet file, `demo`, or None for torchvision's.
        methods: the methods and their settings.
        trainings: the variants (`fp32`, `fp16`, `int8-ptq`, `int8-qat`) of each training (`unified`,
            `one-class`).
        calibrators: of `int8-ptq`, `name` or `name:value`.
        sources: what `int8-ptq` is calibrated on.
        devices: what engines are built for and timed on; those that are not here are left out.
        runtime: what runs the engines of `cpu`.
        image_size: height and width of the models' input in pixels.
        validation: part of the normal images that chooses the best epoch.
        seed: of all trainings.
        samples: calibration images at most.
        queries: least number of SingleStream queries per engine.
        seconds: least duration of SingleStream per engine.
        threads: CPU threads; all by default.
        quick: whether times are a look of seconds, not to be quoted.
    """

    data: Optional[str] = None
    output: str = "study"
    teacher_weights: Optional[str] = None
    methods: Mapping[str, MethodConfig] = dataclasses.field(default_factory=_study_methods)
    trainings: Mapping[str, Tuple[str, ...]] = dataclasses.field(default_factory=_all_trainings)
    calibrators: Tuple[str, ...] = ("lp", "entropy", "mse")
    sources: Tuple[str, ...] = ("images", "random-normal")
    devices: Tuple[str, ...] = ("cpu", "jetson", "cuda")
    runtime: str = "onnxruntime"
    image_size: int = 256
    validation: float = 0.1
    seed: int = 0
    samples: int = DEFAULT_SAMPLES
    queries: int = QUOTABLE_QUERIES
    seconds: float = QUOTABLE_SECONDS
    threads: Optional[int] = None
    quick: bool = False

    def teacher_of(self, method: str) -> Optional[str]:
        """Return the teacher's weights of a method."""
        own = self.methods[method].teacher_weights
        return self.teacher_weights if own is None else own


QUICK: Mapping[str, Any] = {
    "quick": True,
    "teacher_weights": DEMO,
    "image_size": 64,
    "validation": 0.0,  # a short training improves to its end: every image counts
    "samples": 16,
    "seconds": 0.5,
    "trainings": {"unified": list(_ALL_VARIANTS), "one-class": ["fp32"]},
    "calibrators": ["lp", "entropy"],
    "methods": {
        "stfpm": {"epochs": 16, "batch_size": 8},
        "reverse-distillation": {"epochs": 8, "batch_size": 8, "options": {"backbone": "resnet18"}},
        "uninformed-students": {"epochs": 2, "batch_size": 8, "options": {"patch": 33, "stride": 4}},
    },
}
"""A study of minutes on two cores: every cell of the matrix for real, none of its figures to be quoted."""
