"""What all answers have in common: security headers, and a count in the metrics."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autocaption.serve.telemetry import Telemetry

# Nothing from other hosts and nothing inline. Uploaded pictures are shown from memory (blob:).
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
GONE = 499  # nobody got the answer


class Edge:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        telemetry: counts the answers of `counted`.
        counted: a path.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, counted: str) -> None:
        self.app, self.telemetry, self.counted = app, telemetry, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the answer gets the headers."""
        start, status = time.perf_counter(), GONE

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            if scope["type"] == "http" and scope["path"] == self.counted:
                self.telemetry.answers.labels(status).inc()
                self.telemetry.seconds.observe(time.perf_counter() - start)
