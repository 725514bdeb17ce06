"""Test data and fakes: datasets, models, engines, boards and libraries."""
