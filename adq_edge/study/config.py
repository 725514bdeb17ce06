"""The configuration of a study, which `config_file` reads from JSON, `--quick` and the command line.

    {
      "data": "mvtec", "output": "study", "teacher_weights": "resnet18.pth",
      "methods": {
        "stfpm": {"epochs": 60, "batch_size": 16, "finished": {"unified": "bundles/stfpm"}},
        "reverse-distillation": {"epochs": 12, "options": {"backbone": "resnet18"}}
      },
      "trainings": {"unified": ["fp32", "fp16", "int8-ptq", "int8-qat"], "one-class": ["fp32"]},
      "calibrators": ["lp", "entropy"], "sources": ["images", "random-normal"], "devices": ["cpu", "jetson"]
    }

Only `data` is required; paths are relative to the file. The fields are those of `StudyConfig`.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Mapping, Optional, Tuple, Union

from adq_edge.benchmark.quotable import QUOTABLE_QUERIES, QUOTABLE_SECONDS
from adq_edge.core.methods import STUDY_METHODS
from adq_edge.core.options import DEFAULT_SAMPLES

DEMO = "demo"
"""Name of the small teacher that adq-edge contains."""


class Training(str, enum.Enum):
    """Whether one model is trained for all categories or one for each."""

    UNIFIED = "unified"
    """One model for all categories."""
    ONE_CLASS = "one-class"
    """One model for each category."""


class Variant(str, enum.Enum):
    """A precision, and for INT8 the kind of quantization."""

    FP32 = "fp32"
    FP16 = "fp16"
    PTQ = "int8-ptq"
    """Post-training quantization, once for each calibrator and source."""
    QAT = "int8-qat"
    """Quantization-aware training."""


_ALL_VARIANTS = tuple(variant.value for variant in Variant)


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """Training settings of one method; None means the method's default, from the published study.

    Attributes:
        batch_size: images per step.
        options: settings of the method, for example `{"backbone": "resnet18"}`.
        teacher_weights: weights of the method's teacher; those of `StudyConfig` by default.
        qat_epochs: epochs of quantization-aware training.
        finished: bundles or checkpoints to use instead of training. `unified`: the unified model.
            `one-class`: a folder with a model for each category, named CATEGORY or METHOD-CATEGORY (`.pt` for
            a checkpoint). `qat-cpu`, `qat-tensorrt`: the unified model after quantization-aware training.
    """

    epochs: Optional[int] = None
    batch_size: Optional[int] = None
    learning_rate: Optional[float] = None
    options: Mapping[str, Union[int, str]] = dataclasses.field(default_factory=dict)
    teacher_weights: Optional[str] = None
    qat_epochs: Optional[int] = None
    finished: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Configuration of a study.

    Attributes:
        data: dataset folder (layouts: `datasets.layouts`); None for the synthetic one, only in a quick study.
        output: output folder; another run with the same folder resumes the study.
        teacher_weights: the teachers' ResNet file, `demo`, or None for torchvision's.
        trainings: the variants (`fp32`, `fp16`, `int8-ptq`, `int8-qat`) of each training (`unified`,
            `one-class`).
        calibrators: for `int8-ptq`, `name` or `name:value`.
        sources: calibration sources for `int8-ptq`.
        devices: devices that engines are built for and timed on; absent devices are skipped.
        runtime: the runtime of engines for `cpu`.
        image_size: height and width of the models' input in pixels.
        validation: share of the normal images that is used to choose the best epoch.
        seed: random seed of all trainings.
        samples: maximum number of calibration images.
        queries: minimum number of SingleStream queries per engine.
        seconds: minimum duration of SingleStream per engine in s.
        threads: CPU threads; all by default.
        quick: True to measure for seconds only; the times are not to be quoted.
    """

    data: Optional[str] = None
    output: str = "study"
    teacher_weights: Optional[str] = None
    methods: Mapping[str, MethodConfig] = dataclasses.field(
        default_factory=lambda: {name: MethodConfig() for name in STUDY_METHODS}
    )
    trainings: Mapping[str, Tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: {training.value: _ALL_VARIANTS for training in Training}
    )
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
    "validation": 0.0,  # a short training improves until its last epoch: hold no images out
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
"""Settings of a study that takes minutes on two cores; none of its figures is to be quoted."""
