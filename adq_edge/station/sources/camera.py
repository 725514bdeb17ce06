"""USB cameras, network streams, GStreamer pipelines and video files, through OpenCV."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import re
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.core.files import real_path
from adq_edge.station.events import Trigger
from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Policy, Source
from adq_edge.station.sources.video_capture import (
    Settings,
    count_images,
    find_video_file,
    open_capture,
    read_rgb,
    show_device,
)

_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_STEP = 8
"""Every eighth pixel of every eighth row tells whether two images are equal."""
_PAUSE_S = 0.02
_HANGS_S = 10.0
"""Least time without an answer of a device after which it hangs."""
_WHOLE_SHARE = 0.9
"""A video file with less than this share of the images that its header states ends early."""
_PROBLEM_PAUSE_S = 1.0
"""Time between two verdicts of a frozen camera that runs freely."""


class Mode(str, enum.Enum):
    """When the image of a camera is judged."""

    FREE = "free"
    """The newest image, whenever the engine is ready."""
    SOFTWARE = "software"
    """When another source asks for an image."""


@dataclasses.dataclass(frozen=True)
class CameraOptions:
    """The keys of a camera.

    Attributes:
        device: number of a USB camera, a device file, the address of a stream (rtsp://, http://), a GStreamer
            pipeline with an appsink, or a video file. Each image of a video file is judged.
        trigger: `free` to judge images all the time, `software` to take one when another source asks.
        rate: largest number of images a second with `free`; as many as the engine can by default.
        width: width in pixels that a USB camera is asked for.
        height: height in pixels that a USB camera is asked for.
        fps: images a second that a USB camera is asked for.
        silent_s: a camera without an image for this time is opened again.
        frozen_s: a camera with the same image for this time is frozen: `cannot judge`; 0 for never.
    """

    device: Union[int, str]
    trigger: Mode = Mode.FREE
    rate: Optional[float] = None
    width: Optional[int] = None
    height: Optional[int] = None
    fps: Optional[float] = None
    silent_s: float = 5.0
    frozen_s: float = 5.0

    def located_in(self, folder: Path) -> CameraOptions:
        """Return the options with the path of a video file joined to a folder, and a number as one."""
        if isinstance(self.device, str) and _NUMBER.fullmatch(self.device):  # of an environment variable
            return dataclasses.replace(self, device=int(self.device))
        file = find_video_file(self.device)
        return self if file is None else dataclasses.replace(self, device=str(folder / file))

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if isinstance(self.device, int) and self.device < 0:
            raise ValueError(f"device is {self.device}, not 0 or more")
        for name in ("rate", "width", "height", "fps", "silent_s"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= 1e6:
                raise ValueError(f"{name} is {value:g}, not above 0")
        if not 0.0 <= self.frozen_s <= 1e6:
            raise ValueError(f"frozen_s is {self.frozen_s:g}, not 0 or more")

    @property
    def settings(self) -> Settings:
        """What a USB camera is asked for."""
        return Settings(self.width, self.height, self.fps)


class _Freeze:
    """Finds out since when a camera gives the same image."""

    def __init__(self) -> None:
        self._sum: Optional[int] = None
        self._since = 0.0

    def seconds(self, image: np.ndarray) -> float:
        """Return for how long the images have been equal, in s."""
        found, now = zlib.crc32(image[::_STEP, ::_STEP].tobytes()), time.monotonic()
        if found != self._sum:
            self._sum, self._since = found, now
        return now - self._since


class CameraSource(Source):
    """Reads a camera all the time, so that its newest image is never old."""

    Options = CameraOptions
    policy = Policy.NEWEST

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._arrived = threading.Condition()
        self._image: Optional[np.ndarray] = None
        self._count = 0
        self._problem: Optional[str] = "is not open"
        self._next_s = self._answered = 0.0

    @property
    def needs_engine(self) -> bool:
        """False if another source asks for the images: it has the engine."""
        return bool(self.options.trigger is Mode.FREE)

    def probe(self) -> None:
        """Check that the camera opens and gives an image."""
        device = self.options.device
        capture = open_capture(device, self.options.settings, self.options.silent_s)
        try:
            if read_rgb(capture) is None:
                raise DataError("gives no image", where=show_device(device), fix="Check the camera")
        finally:
            capture.release()

    def claims(self) -> Sequence[str]:
        """Return the device of a USB camera: one program at a time can open it."""
        device = self.options.device
        path = f"/dev/video{device}" if isinstance(device, int) else device
        return [f"the camera {real_path(path)}"] if path.startswith("/dev/") else ()

    def run(self, intake: Intake) -> None:
        """Read images until the station ends, or the video file does."""
        ended = threading.Event()
        self._answered = time.monotonic()
        threading.Thread(
            target=self._watch, args=(intake, ended), name=f"watch {self.name}", daemon=True
        ).start()
        try:
            self._run(intake)
        finally:
            ended.set()

    def _watch(self, intake: Intake, ended: threading.Event) -> None:
        """Report a device that neither opens nor returns from a read: the thread that reads it hangs."""
        limit = max(_HANGS_S, 2.0 * self.options.silent_s)
        while not ended.wait(limit / 10.0):
            if time.monotonic() - self._answered > limit:
                where = show_device(self.options.device)
                what = f"does not answer since {limit:g} s"
                intake.report(
                    str(DataError(what, where=where, fix="Check the camera, or start the station again"))
                )

    def _run(self, intake: Intake) -> None:
        try:
            capture = open_capture(self.options.device, self.options.settings, self.options.silent_s)
        except DataError as error:
            self._set_problem(str(error))
            raise
        try:
            if find_video_file(self.options.device) is not None and self.needs_engine:
                self._judge_all(capture, intake)
            else:
                self._read(capture, intake)
        finally:
            self._set_problem("is not open")
            capture.release()

    def _judge_all(self, capture: Any, intake: Intake) -> None:
        """Submit each image of a video file; report one that ends early."""
        expected = count_images(capture)
        for number in itertools.count():
            image = read_rgb(capture)
            self._answered = time.monotonic()
            if image is None:
                if number < _WHOLE_SHARE * expected:
                    where = show_device(self.options.device)
                    what = f"{where} ends after {number} of {expected} images"
                    intake.report(f"{what}. It is damaged, or was not complete.")
                return
            intake.report(None)
            while not intake.has_room():
                self._answered = time.monotonic()
                if intake.wait(_PAUSE_S / 10.0):
                    return
            intake.submit(Trigger(image=image))

    def _read(self, capture: Any, intake: Intake) -> None:
        """Keep the newest image, and submit it if the camera runs freely."""
        freeze, last = _Freeze(), time.monotonic()
        while not intake.is_stopping:
            image = read_rgb(capture)
            now = self._answered = time.monotonic()
            if image is None:
                if now - last > self.options.silent_s:
                    what = f"no image for {self.options.silent_s:g} s"
                    raise DataError(what, where=show_device(self.options.device), fix="Check the camera")
                intake.wait(_PAUSE_S)
                continue
            last = now
            self._keep(image, freeze, intake)
            if self.needs_engine and now >= self._next_s and intake.has_room():
                pause = 0.0 if self.options.rate is None else 1.0 / self.options.rate
                self._next_s = now + (pause if self._problem is None else max(pause, _PROBLEM_PAUSE_S))
                intake.submit(Trigger(image=image, problem=self._problem, is_triggered=False))

    def _keep(self, image: np.ndarray, freeze: _Freeze, intake: Intake) -> None:
        frozen_s = freeze.seconds(image)
        is_frozen = 0.0 < self.options.frozen_s <= frozen_s
        problem = f"frozen: the same image for {self.options.frozen_s:g} s" if is_frozen else None
        intake.report(problem)
        with self._arrived:
            self._image, self._problem = image, problem
            self._count += 1
            self._arrived.notify_all()

    def _set_problem(self, problem: str) -> None:
        with self._arrived:
            self._problem = problem

    def capture(self, timeout_s: float) -> np.ndarray:
        """Return the next image, uint8 `[H, W, 3]` RGB.

        Raises:
            DataError: the camera is frozen, or gives no image in time.
        """
        where = f"source {self.name}"
        with self._arrived:
            count = self._count
            if not self._arrived.wait_for(lambda: self._count > count, timeout_s) or self._image is None:
                what = self._problem or f"no image within {1000 * timeout_s:.0f} ms"
                raise DataError(what, where=where, fix="Check the camera")
            if self._problem is not None:
                raise DataError(self._problem, where=where, fix="Check the camera")
            return self._image

    def describe(self) -> str:
        """Return the device, without the password of an address."""
        return show_device(self.options.device)
