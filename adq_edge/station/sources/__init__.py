"""Sources of a station, one file each."""
