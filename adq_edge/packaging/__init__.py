"""Folders that hand an engine over: to Triton, DeepStream, OpenVINO Model Server, C++, systemd, compose."""

from __future__ import annotations
