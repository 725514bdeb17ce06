"""Basics of all rooms: version, errors, files, records, options, runtimes, console, imaging, worker."""

from __future__ import annotations
