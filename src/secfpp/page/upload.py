"""Reading the images of a request: bounded, and in memory alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from secfpp.page.classifier import Upload

MOST_IMAGES = 64
"""Images of one request."""
MOST_BYTES = 100_000_000
"""Bytes of one request."""
FIELD = "images"
"""The name of the form's field that holds them."""
_TOO_LARGE = f"more than {MOST_BYTES // 10**6} MB in one request: send fewer images at a time, or smaller ones"


class _InMemory(MultiPartParser):
    """Starlette's parser, without the temporary files of large parts."""

    spool_max_size = MOST_BYTES + 1


async def read_uploads(request: Request) -> list[Upload]:
    """The images of a request, in order.

    Raises:
        HTTPException: 413 for too many bytes or images, 415 for another kind of body, 400 for a form that is damaged,
            holds something else or nothing.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"send multipart/form-data with image files in the field {FIELD!r}")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        raise HTTPException(413, _TOO_LARGE)
    # One file more than allowed is read, so that too many can be told from a damaged form.
    parser = _InMemory(request.headers, _bounded(request.stream()), max_files=MOST_IMAGES + 1, max_fields=MOST_IMAGES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if len(parser.items) >= MOST_IMAGES:
            raise _too_many() from error
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    try:
        items = form.multi_items()
        if others := [name for name, item in items if name != FIELD or not isinstance(item, UploadFile)]:
            raise HTTPException(400, f"field {others[0]!r}: send image files, each in a field {FIELD!r}")
        if not items:
            raise HTTPException(400, f"no image: send image files, each in a field {FIELD!r}")
        if len(items) > MOST_IMAGES:
            raise _too_many()
        return [Upload(item.filename or "", await item.read()) for _, item in items if isinstance(item, UploadFile)]
    finally:
        await form.close()


def _too_many() -> HTTPException:
    return HTTPException(413, f"more than {MOST_IMAGES} images in one request: send fewer at a time")


async def _bounded(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The stream, as long as it is not longer than it may be."""
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > MOST_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        yield chunk
