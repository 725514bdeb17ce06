"""Sinks of a station, one file each."""
