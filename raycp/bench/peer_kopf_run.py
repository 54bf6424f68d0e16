"""What ``kopf run -m`` imports: importing it registers the handlers."""

from raycp.bench.peer_kopf import register

register()
