"""Services of a station, such as a page, one file or folder each."""
