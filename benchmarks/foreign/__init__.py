"""Models of other tools, taken over by `adq-edge import` and measured: parity, quality, INT8, times."""
