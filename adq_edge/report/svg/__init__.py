"""Charts as inline SVG, as wide as a phone, colored by the page's style sheet."""

from __future__ import annotations
