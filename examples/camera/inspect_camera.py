"""Print a verdict for each frame: python inspect_camera.py ENGINE CAMERA_NUMBER_OR_VIDEO_FILE."""

from __future__ import annotations

import sys

import cv2

import adq_edge

if len(sys.argv) != 3:
    sys.exit(__doc__)
engine, source = sys.argv[1:]
camera = cv2.VideoCapture(int(source) if source.isdigit() else source)
if not camera.isOpened():
    sys.exit(f"{source}: no camera and no video file that OpenCV can read")
with adq_edge.load_inspector(engine) as inspector:
    while (frame := camera.read()[1]) is not None:
        result = inspector.inspect(frame, color="bgr")
        boxes = [region.box for region in result.regions]
        print(result.verdict.value, result.product, result.p_value, boxes, result.reason or "", flush=True)
