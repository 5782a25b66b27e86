"""`--metrics HOST:PORT`: what the node reports, for a Prometheus server to collect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from gossip.errors import SettingError


class PrometheusMetrics:
    """Gauges that the event loop sets and the library's own thread serves."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._round = self._gauge("gossip_round", "Rounds done")
        self._accuracy = self._gauge("gossip_accuracy", "Accuracy of the own model on the common test set")
        self._test_loss = self._gauge("gossip_test_loss", "Mean cross entropy on the common test set")
        self._up = self._gauge("gossip_neighbours_up", "Neighbours connected now")
        self._bytes = self._gauge("gossip_bytes", "Bytes so far, before TLS", "direction", "kind")
        self._messages = self._gauge("gossip_messages", "Messages so far", "direction", "type")
        self._rejected = self._gauge("gossip_rejected_messages", "Messages not used so far", "reason")

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self._registry)

    def serve(self, address: str) -> None:
        """Listen in a thread that ends with the process.

        Raises:
            SettingError: the address is malformed or taken.
        """
        host, _, port = address.rpartition(":")
        try:
            start_http_server(int(port), addr=host.strip("[]") or "127.0.0.1", registry=self._registry)
        except (ValueError, OverflowError):
            raise SettingError(f"--metrics {address}: must be HOST:PORT, e.g. 127.0.0.1:9100") from None
        except OSError as error:
            raise SettingError(f"--metrics {address}: cannot listen there: {error.strerror}") from None

    def update(self, status: Mapping[str, Any]) -> None:
        """Take over what `Node.status` says."""
        self._round.set(status["round"])
        if status["accuracy"] is not None:
            self._accuracy.set(status["accuracy"])
            self._test_loss.set(status["test_loss"])
        self._up.set(sum(entry["up"] for entry in status["neighbours"]))
        for direction, suffix in (("sent", ""), ("received", "_received")):
            for kind in ("payload", "protocol", "transport"):
                self._bytes.labels(direction, kind).set(status["bytes" + suffix][kind])
            for name, count in status["messages" + suffix]["by_type"].items():
                self._messages.labels(direction, name).set(count)
        for reason, count in status["rejected_messages"].items():
            self._rejected.labels(reason).set(count)
