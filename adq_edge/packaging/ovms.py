"""A folder for OpenVINO Model Server (OVMS)."""

from __future__ import annotations

import json
from typing import Dict

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.options import Precision
from adq_edge.packaging.source import Source


def ovms_files(source: Source) -> Dict[str, bytes]:
    """Return the files by path.

    Raises:
        EngineError: the engine is not one of OpenVINO.
    """
    source.require_runtime("OVMS", "openvino")
    is_bf16 = source.sidecar.precision is Precision.BF16
    model = {
        "name": source.name,
        "base_path": f"/models/{source.name}",
        "layout": {INPUT: "NHWC"},
        "plugin_config": {
            "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        },
    }
    config = {"model_config_list": [{"config": model}]}
    return {
        "models/config.json": (json.dumps(config, indent=2) + "\n").encode(),
        f"models/{source.name}/1/model.onnx": source.content,
        **{f"client/{name}": content for name, content in source.companions().items()},
    }
