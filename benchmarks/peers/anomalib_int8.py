"""anomalib: its model, export, INT8_PTQ and OpenVINOInferencer, with adq-edge's weights.

There are two INT8 exports, because either may be faster. `fixed` has a fixed input of the model's size and is
run by OpenVINO directly (engine only). `inferencer` is the default export; its graph resizes the image that
the OpenVINOInferencer reads. `plain` is `fixed` without compression: it verifies the weights.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List
from unittest import mock

import numpy as np

from benchmarks.peers.contract import CALIBRATION, VALIDATION, Job, Peer, Result

_FIXED, _PLAIN = "fixed", "plain"
_MODEL = Path("weights") / "openvino" / "model.xml"


class Anomalib(Peer):
    """An export of anomalib, run by its inferencer or by OpenVINO directly."""

    needs = ("anomalib", "torch", "torchvision", "openvino", "nncf", "onnxscript")

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        from anomalib.deploy import OpenVINOInferencer

        self.takes_files = job.variant not in (_FIXED, _PLAIN)
        self._largest = _largest_map(job)
        config = {} if job.threads is None else {"INFERENCE_NUM_THREADS": str(job.threads)}
        self._inferencer = OpenVINOInferencer(Path(job.made) / _MODEL, device="CPU", config=config)

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Export with `Engine.export`, calibrated on test images, half of them by its default.

        Normal images alone would be unfair: the scoring is quantized too, and maps of defects would be
        clipped at the maximum of normal maps.
        """
        from anomalib.data import Folder
        from anomalib.deploy import CompressionType, ExportType
        from anomalib.engine import Engine

        images = Folder(
            "peers",
            root=job.images,
            normal_dir=CALIBRATION,
            normal_test_dir=f"{VALIDATION}/good",
            abnormal_dir=f"{VALIDATION}/defect",
            val_split_mode="same_as_test",  # the test images without the check images
            train_batch_size=1,
            eval_batch_size=1,
            num_workers=0,
        )
        Engine(default_root_dir=job.made).export(
            _lightning_model(job),
            ExportType.OPENVINO,
            export_root=job.made,
            input_size=job.image_size if job.variant in (_FIXED, _PLAIN) else None,
            compression_type=None if job.variant == _PLAIN else CompressionType.INT8_PTQ,
            datamodule=images,
        )

    def feed(self, image: np.ndarray) -> np.ndarray:
        """Pre-process as `OpenVINOInferencer.pre_process` does."""
        return np.ascontiguousarray(np.float32(image).transpose(2, 0, 1)[None] / 255.0)

    def infer(self, fed: np.ndarray) -> Any:
        """Run the compiled model on a float image."""
        return self._inferencer.model([fed])

    def read(self, output: Any) -> Result:
        """Undo the normalization of the post-processing in the graph."""
        named: Dict[str, Any] = self._inferencer.post_process(output)
        anomaly_map = np.asarray(named["anomaly_map"], np.float32)
        return Result(
            anomaly_map.reshape(anomaly_map.shape[-2:]) * np.float32(self._largest),
            float(np.ravel(named["pred_score"])[0]) * self._largest,
        )

    def predict(self, path: str) -> Any:
        """Run the inferencer on a file."""
        return self._inferencer.predict(path)


def _largest_map(job: Job) -> float:
    return float(json.loads((Path(job.model) / "scale.json").read_text())["largest_map"])


def _lightning_model(job: Job) -> Any:
    """Return anomalib's module with adq-edge's weights, and thresholds as a training would set them.

    Its post-processing is (x - threshold) / (max - min) + 0.5, clipped to 0..1. A threshold of half the
    maximum makes that x / maximum: the graph keeps all operations, and `read` can invert them.
    """
    import torch
    from anomalib.models import ReverseDistillation, Stfpm

    weights = torch.load(Path(job.model) / "weights.pt", weights_only=True)
    is_stfpm = any(".student_model." in name for name in weights)
    with _no_download():
        if is_stfpm:
            model = Stfpm(pre_processor=Stfpm.configure_pre_processor(job.image_size))
        else:
            processor = ReverseDistillation.configure_pre_processor(job.image_size)
            model = ReverseDistillation(pre_trained=False, pre_processor=processor)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    unloaded = [name for name in missing if not _may_be_missing(name)]
    if unloaded or unexpected:
        raise ValueError(f"anomalib's model differs: missing {unloaded[:3]}, unexpected {unexpected[:3]}")
    largest = torch.tensor(_largest_map(job))
    processor = model.post_processor
    for part in ("image", "pixel"):
        getattr(processor, f"{part}_min").copy_(torch.tensor(0.0))
        getattr(processor, f"{part}_max").copy_(largest)
        getattr(processor, f"_{part}_threshold").copy_(largest / 2)
    return model.eval()


def _may_be_missing(name: str) -> bool:
    """Return True for unused parts of RD's bottleneck, for counters and for the post-processing."""
    unused: List[str] = ["bottleneck.conv4.", "bottleneck.bn4.", "num_batches_tracked"]
    return not name.startswith("model.") or any(part in name for part in unused)


@contextlib.contextmanager
def _no_download() -> Iterator[None]:
    """Keep Stfpm from downloading a teacher whose weights are replaced; it has no option for that."""
    import timm

    create = timm.create_model

    def create_untrained(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **{**options, "pretrained": False})

    with mock.patch.object(timm, "create_model", create_untrained):
        yield


CONTENDER = Anomalib
