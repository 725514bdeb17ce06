"""A benchmark on boards over ssh: installed there, run there, brought back, and nothing left behind."""
