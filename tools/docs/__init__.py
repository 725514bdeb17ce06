"""Generators of the documentation site, and its hooks for mkdocs."""
