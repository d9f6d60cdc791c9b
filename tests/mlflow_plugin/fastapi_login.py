"""A company's own app of MLflow's server: FastAPI, made by a factory, and silent about who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

PASSWORD = "everybody's password"


def create_app() -> FastAPI:
    from mlflow.server.fastapi_app import create_fastapi_app

    app = create_fastapi_app()

    @app.middleware("http")
    async def log_in(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.headers.get("Authorization") != PASSWORD:
            return Response("Log in.", 401)
        return await call_next(request)

    return app
