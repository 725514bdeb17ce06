"""The station's server: the page, requests that trigger, verdicts to fetch, and metrics."""
