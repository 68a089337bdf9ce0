"""GET /metrics: what this ingress has counted, and where the installation stands, for Prometheus."""

from collections.abc import Iterable

from flask import Blueprint, Response, current_app, request
from flask.blueprints import BlueprintSetupState
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingress.desk import Desk
from worker.exposition import registry_of

metrics = Blueprint("metrics", __name__)

#: Where an application keeps what it shows.
REGISTRY = "payhook.metrics"


class Keys(Collector):
    """How the webhook keys of this process are.

    Args:
        desk: whose they are.
    """

    def __init__(self, desk: Desk):
        self._desk = desk

    def collect(self) -> Iterable[Metric]:
        told = "1: the key store could be read when it was last asked."
        yield GaugeMetricFamily("payhook_key_store_readable", told, value=float(self._desk.keys_readable()["ok"]))


@metrics.record
def open_registry(state: BlueprintSetupState) -> None:
    """Put together what the application shows."""
    desk: Desk = state.app.extensions["payhook"]
    registry = registry_of(lambda: desk.database, desk.settings)
    registry.register(Keys(desk))
    state.app.extensions[REGISTRY] = registry


@metrics.get("/metrics")
def show() -> Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(current_app.extensions[REGISTRY]), content_type=content_type)
