"""What every room uses: version, errors, files, records, options, console, imaging, plugins."""

from __future__ import annotations
