"""Opens cameras, streams and video files with OpenCV, with time limits where OpenCV has them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import cv2
import numpy as np

from adq_edge.core.errors import DataError, MissingDependencyError

# FFmpeg prints what is reported as a problem of the source; -8 is its level for nothing.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SECRETS = (
    (re.compile(r"(?<=://)(?:[^/\s?:]*:[^\s?]*|[^/\s?]*)@"), ""),
    (re.compile(r"(?<=\?)\S+"), "..."),
    (re.compile(r"(?<=user-pw=)\S+"), "..."),
)
"""User and password of an address, its query, and the password of a GStreamer element."""
_STREAM_FIX = "Check its address, its password and the network"
_PIPELINE_FIX = "Try it with gst-launch-1.0, and end it with appsink"
_DEVICE_FIX = "Check that it is plugged in, allowed for this user, and not used by another program"


class Settings(NamedTuple):
    """What a camera is asked for; None for its default."""

    width: Optional[int] = None
    height: Optional[int] = None
    fps: Optional[float] = None


def show_device(device: Union[int, str]) -> str:
    """Return a device for messages, without the password of an address."""
    if isinstance(device, int):
        return f"camera {device}"
    for pattern, shown in _SECRETS if _is_address(device) or is_pipeline(device) else ():
        device = pattern.sub(shown, device)
    return device


def is_pipeline(device: Union[int, str]) -> bool:
    """Return True for a GStreamer pipeline."""
    return isinstance(device, str) and " ! " in device


def _is_address(device: Union[int, str]) -> bool:
    return isinstance(device, str) and not is_pipeline(device) and _ADDRESS.match(device) is not None


def find_video_file(device: Union[int, str]) -> Optional[Path]:
    """Return the file if a device is a video file; None for a camera, an address or a pipeline."""
    if isinstance(device, int) or is_pipeline(device) or _is_address(device):
        return None
    path = Path(device).expanduser()
    return None if str(path).startswith("/dev/") else path


def open_capture(device: Union[int, str], settings: Settings, timeout_s: float) -> Any:
    """Return OpenCV's capture of a device.

    Args:
        device: number of a camera, a device file, an address, a GStreamer pipeline or a video file.
        settings: what a USB camera is asked for.
        timeout_s: limit for a network stream to open, and between its images.

    Raises:
        DataError: there is no such device or file, or it cannot be opened.
        MissingDependencyError: OpenCV was built without GStreamer.
    """
    path = find_video_file(device)
    if path is not None and not path.is_file():
        raise DataError(
            "no such camera or video file", where=path, fix="Name a camera number, an address or a file"
        )
    try:
        capture = _open(device if path is None else str(path), timeout_s)
    except cv2.error:
        capture = None
    if capture is None or not capture.isOpened():
        fix = _DEVICE_FIX if path is None else "Convert it to a format that OpenCV reads"
        fix = _STREAM_FIX if _is_address(device) else _PIPELINE_FIX if is_pipeline(device) else fix
        raise DataError("cannot be opened", where=show_device(device), fix=fix)
    wanted = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
    for name, value in zip(wanted, settings):
        if value is not None:
            capture.set(name, value)
    return capture


def _open(device: Union[int, str], timeout_s: float) -> Any:
    if is_pipeline(device):
        if not _has_gstreamer():
            fix = "Install the OpenCV of JetPack or of the Linux distribution"
            raise MissingDependencyError("a pipeline needs an OpenCV with GStreamer", fix=fix)
        return cv2.VideoCapture(device, cv2.CAP_GSTREAMER)
    if _is_address(device) and hasattr(cv2, "CAP_PROP_OPEN_TIMEOUT_MSEC"):
        limit = int(1000 * timeout_s)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        return cv2.VideoCapture(device, cv2.CAP_FFMPEG, limits)
    return cv2.VideoCapture(device)


def count_images(capture: Any) -> int:
    """Return the number of images that a video file states; 0 if it states none."""
    try:
        count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    except cv2.error:
        return 0
    return int(count) if 0.0 < count < 1e9 else 0


def _has_gstreamer() -> bool:
    """Return True if OpenCV was built with GStreamer, or its plugin for it is there."""
    registry = cv2.videoio_registry
    backends = {registry.getBackendName(one) for one in registry.getBackends()}
    has_backend = getattr(registry, "hasBackend", lambda backend: True)  # from OpenCV 4.5 on
    return "GSTREAMER" in backends and bool(has_backend(cv2.CAP_GSTREAMER))


def read_rgb(capture: Any) -> Optional[np.ndarray]:
    """Return the next image as uint8 `[H, W, 3]` RGB; None if there is none."""
    try:
        is_read, image = capture.read()
    except cv2.error:
        return None
    if not is_read or image is None or image.dtype != np.uint8:
        return None
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
