"""What the service counts, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # bounds of the histogram


class Measures:
    """The figures of one service, in a registry of their own. No label comes from what readers send."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "snapdex_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "snapdex_request_seconds", "How long answers took.", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("snapdex_requests_in_flight", "Requests that are being answered.", registry=registry)
        self.abstentions = Counter(
            "snapdex_abstentions", "Searches that found nothing relevant.", ["index"], registry=registry
        )
        self.active = Gauge(
            "snapdex_active_version", "The version that readers see; 0: none.", ["index"], registry=registry
        )
        self.database = Gauge("snapdex_database_up", "Whether Postgres answers.", registry=registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
