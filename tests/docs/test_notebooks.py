"""Notebooks become pages of the site."""

from __future__ import annotations

import json

from tools.docs.notebooks import notebook_page


def test_notebook_page_has_texts_code_and_stored_outputs():
    image = {"output_type": "display_data", "data": {"image/png": "iVBO\nRw==\n", "text/plain": ["<Image>"]}}
    printed = {"output_type": "stream", "name": "stdout", "text": ["0.98\n", "0.97\n"]}
    progress = {"output_type": "stream", "name": "stderr", "text": "epoch 1"}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {"cell_type": "code", "source": "print(1)\n", "outputs": [progress, printed, image]},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    assert notebook_page(json.dumps({"cells": cells})) == (
        "# Title\nText.\n\n````python\nprint(1)\n````\n\n````text\n0.98\n0.97\n````\n\n"
        "![output](data:image/png;base64,iVBORw==)\n"
    )
