"""What tests are made of: datasets, models, engines, boards and stand-ins for libraries."""
