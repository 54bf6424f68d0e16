"""The fleet's HTTP server: metrics, health, readiness, JSON API and status page."""
