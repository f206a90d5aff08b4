"""The one place that loads OpenTelemetry's library, and only where spans are asked for."""

from protocol import log
from protocol.settings import SettingsError
from sidecar.tracing.attempts import Attempts
from sidecar.tracing.names import of_sidecar
from sidecar.tracing.relation import Tracing


def start(tracing: Tracing | None, service: str, sidecar: str, coordinator: str) -> Attempts | None:
    """Return what makes the spans of attempts; None if there shall be none.

    Raises:
        SettingsError: The library is not installed, or cannot use what ``OTEL_*`` says.
    """
    if tracing is None:
        return None
    try:
        from sidecar.tracing.spans import Spans  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            [f"otel_endpoint needs what is not installed ({error}): pip install 'pillion[otel]'"]
        ) from None
    common = of_sidecar(service, sidecar, coordinator)
    try:
        spans = Spans(tracing.endpoint, service, common, log.logger("tracing"))
    except ValueError as error:
        raise SettingsError([f"a variable OTEL_* cannot be used: {error}"]) from None
    return Attempts(spans, tracing.relation)
