"""What Prometheus is told. With several workers, of all of them together.

prometheus-client then keeps each worker's numbers in files that all can read, if
PROMETHEUS_MULTIPROC_DIR names their folder before it is imported (see ``workers``).
"""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    exposition,
    multiprocess,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # older packages have no name for it
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        # When a counter began would be a number more for each.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = None if several else CollectorRegistry()
        if self._registry is not None:
            ProcessCollector(registry=self._registry)
        # In files, each number is written by the worker that has it, and no registry is needed.
        kept = self._registry
        self.requests = Counter(
            "tidegate_requests", "Requests answered.", ("path", "status"), registry=kept
        )
        self.request_seconds = Histogram(
            "tidegate_request_seconds",
            "From a request's headers to its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=kept,
        )
        self.texts = Counter("tidegate_texts", "Texts answered.", ("model", "path"), registry=kept)
        self.batch_texts = Histogram(
            "tidegate_batch_texts", "Texts scored together.", buckets=_TEXTS, registry=kept
        )
        self.scoring_seconds = Histogram(
            "tidegate_scoring_seconds", "Scoring of a batch.", buckets=_SECONDS, registry=kept
        )
        self.waiting_texts = Gauge(
            "tidegate_waiting_texts",
            "Texts that wait for the scorer.",
            multiprocess_mode="livesum",
            registry=kept,
        )
        self.explanations = Gauge(
            "tidegate_explanations",
            "Requests whose explanations are at work or wait for it.",
            multiprocess_mode="livesum",
            registry=kept,
        )
        self.dropped = Counter(
            "tidegate_dropped_connections",
            "Connections ended because their answers were not taken, by the limit that was met.",
            ("reason",),
            registry=kept,
        )
        self.reloads = Counter(
            "tidegate_model_reloads",
            "Replaced model files, by whether they could be loaded.",
            ("model", "result"),
            registry=kept,
        )

    def text(self) -> bytes:
        """All numbers in Prometheus's text format."""
        registry = self._registry
        if registry is None:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return exposition.generate_latest(registry)
