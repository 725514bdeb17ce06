"""Changes of several files together or not at all. Other rooms use `core.files`."""
