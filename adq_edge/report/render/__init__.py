"""A report as HTML, Markdown and CSV."""

from __future__ import annotations
