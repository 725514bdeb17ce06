"""OpenVINO with NNCF: `nncf.quantize` on the exported FP32 model, both with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contract import Job
from benchmarks.peers.exported_graph import ExportedGraph, calibration_feeds, float_graph

_NNCF_SUBSET = 300  # the default of nncf.quantize


class NncfOpenVino(ExportedGraph):
    """A graph from NNCF, compiled by OpenVINO with a fixed shape; the variant is `defaults-SCORING`."""

    needs = ("nncf", "openvino")

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        import openvino

        config = {} if job.threads is None else {"INFERENCE_NUM_THREADS": str(job.threads)}
        core = openvino.Core()
        compiled = core.compile_model(str(Path(job.made) / "engine.xml"), "CPU", config)
        self._request = compiled.create_infer_request()

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Quantize, and write the model in OpenVINO's format."""
        import nncf
        import openvino

        model = openvino.Core().read_model(str(float_graph(job)))
        model.reshape([1, *job.image_size, 3])
        images = [feed for feeds in calibration_feeds(job) for feed in feeds.values()]
        dataset = nncf.Dataset(images)
        quantized = nncf.quantize(model, dataset, subset_size=min(_NNCF_SUBSET, len(images)))
        openvino.save_model(quantized, str(Path(job.made) / "engine.xml"), compress_to_fp16=False)

    def infer(self, fed: np.ndarray) -> Any:
        """Run the request; the returned arrays are memory of the engine."""
        self._request.infer([fed], share_inputs=True)
        return [self._request.get_output_tensor(i).data for i in range(2)]


CONTENDER = NncfOpenVino
