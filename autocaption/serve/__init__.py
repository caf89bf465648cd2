"""A checkpoint as a web service: an HTTP API, a page, and metrics for Prometheus."""
