"""Benchmarks on boards over ssh: installation, file transfer, jobs and their results."""
