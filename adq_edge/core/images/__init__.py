"""Images: finding, reading, checking, converting and writing image files."""
