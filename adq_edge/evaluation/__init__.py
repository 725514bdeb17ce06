"""Images made from what engines say of images."""
