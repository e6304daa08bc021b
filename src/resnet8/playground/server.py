"""Marimo's server for this machine's own browser: ``python -m resnet8.playground.server``, then as ``marimo``.

Marimo asks for its token, but not who sent a cookie that stands for it: a page of another server on this machine, whose
cookies are the same, could open its WebSocket. So the name that is asked for must be this machine's, and a request that
a page sends must come from a page of this very server.
"""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from marimo._server.registry import MIDDLEWARE_REGISTRY  # what its entry points for middleware register
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")


class OwnOrigin:
    """Refuses requests and WebSockets of other servers' pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what bears no origin, or this server's."""
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else Headers()
        origin = headers.get("origin")
        app = self._app
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            app = PlainTextResponse("Invalid origin header", status_code=403)
        await app(scope, receive, send)


if __name__ == "__main__":
    MIDDLEWARE_REGISTRY.register("host", Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS))
    MIDDLEWARE_REGISTRY.register("origin", Middleware(OwnOrigin))
    runpy.run_module("marimo", run_name="__main__", alter_sys=True)
