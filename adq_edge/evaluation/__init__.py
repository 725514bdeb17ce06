"""Pictures made from what engines say of pictures."""
