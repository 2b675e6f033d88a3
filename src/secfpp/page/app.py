"""The web application: the page, its files, and ``POST /predict``."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Any

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secfpp import __version__
from secfpp.page.answers import Refusal
from secfpp.page.classifier import Classifier
from secfpp.page.openapi import MOST_NEIGHBOURS, document
from secfpp.page.upload import FIELD, MOST_BYTES, MOST_IMAGES, read_uploads

HOSTS = ("127.0.0.1", "localhost")
"""Names under which the page answers, with any port: a page elsewhere that made its own name lead here has another."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of every response."""


def make_app(classifier: Classifier) -> ASGIApp:
    """The application for one client's prompt. It classifies the images of one request at a time."""
    one_at_a_time = CapacityLimiter(1)
    page, style, script = _page(classifier), _style(), _own("page.js")
    examples = classifier.examples

    async def index(request: Request) -> Response:
        return HTMLResponse(page)

    async def stylesheet(request: Request) -> Response:
        return Response(style, media_type="text/css")

    async def javascript(request: Request) -> Response:
        return Response(script, media_type="text/javascript")

    async def openapi(request: Request) -> Response:
        return JSONResponse(document())

    async def example(request: Request) -> Response:
        number = request.path_params["number"]
        if examples is None or number >= len(examples.pictures):
            raise HTTPException(404, f"no example {number}")
        return Response(examples.pictures[number], media_type="image/jpeg")

    async def predict(request: Request) -> Response:
        wanted = _wanted(request.query_params)
        uploads = await read_uploads(request)
        answer = await to_thread.run_sync(partial(classifier.answer, uploads, **wanted), limiter=one_at_a_time)
        return _json(answer)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/page.css", stylesheet),
            Route("/page.js", javascript),
            Route("/openapi.json", openapi),
            Route("/examples/{number:int}", example),
            Route("/predict", predict, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refused, Exception: _refused},
    )
    return _Guard(app)


class _Guard:
    """Refuses requests that come by another name or from another page, and adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        app = self._app
        if host.partition(":")[0] not in HOSTS:
            app = _json(Refusal(error=f"Host {host!r}: ask for {' or '.join(HOSTS)}"), 400)
        elif origin is not None and origin.lower() != f"http://{host}":
            app = _json(Refusal(error=f"Origin {origin!r}: pages of other origins are not answered"), 403)
        await app(scope, receive, guarded)


def _wanted(query: QueryParams) -> dict[str, Any]:
    """The query parameters as arguments of `Classifier.answer`.

    Raises:
        HTTPException: 400 for values that cannot be.
    """
    top, neighbours, picture = (query.get(name) for name in ("top", "neighbours", "picture"))
    wanted: dict[str, Any] = {}
    if top is not None:
        wanted["top"] = _whole("top", top, 1, None)
    if neighbours is not None:
        wanted["neighbours"] = _whole("neighbours", neighbours, 0, MOST_NEIGHBOURS)
    if picture is not None:
        if picture not in ("true", "false"):
            raise HTTPException(400, f"picture = {picture!r}: true or false")
        wanted["picture"] = picture == "true"
    if unknown := sorted(set(query) - {"top", "neighbours", "picture"}):
        raise HTTPException(400, f"{unknown[0]!r}: no such parameter; there are top, neighbours and picture")
    return wanted


def _whole(name: str, value: str, least: int, most: int | None) -> int:
    """A query parameter as a whole number."""
    if value.isascii() and value.isdecimal() and len(value) < 10 and least <= int(value) <= (most or int(value)):
        return int(value)
    allowed = f"at least {least}" if most is None else f"from {least} to {most}"
    raise HTTPException(400, f"{name} = {value!r}: a whole number {allowed}")


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "the request could not be answered"
    return _json(Refusal(error=detail), status)


def _json(content: BaseModel, status: int = 200) -> Response:
    return Response(content.model_dump_json(), status, media_type="application/json")


def _page(classifier: Classifier) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("secfpp.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    html: str = environment.get_template("page.html.j2").render(
        prompt=classifier.prompt,
        prior=classifier.prior,
        examples=classifier.examples,
        field=FIELD,
        most_bytes=MOST_BYTES,
        most_images=MOST_IMAGES,
        version=__version__,
    )
    return html


def _style() -> str:
    """The report's style, and what the page adds to it."""
    report = files("secfpp.experiment.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return report + _own("page.css")


def _own(name: str) -> str:
    """A file of the page."""
    return files("secfpp.page").joinpath("templates", name).read_text(encoding="utf-8")
