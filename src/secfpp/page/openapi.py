"""The OpenAPI document of the page's one endpoint for other programs."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from secfpp import __version__
from secfpp.page.answers import Answer, Refusal
from secfpp.page.upload import FIELD, MOST_BYTES, MOST_IMAGES

MOST_NEIGHBOURS = 20
"""Examples that can be asked for, for each image."""
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "top": ({"type": "integer", "minimum": 1}, "Best classes to list for each image; all if not given."),
    "neighbours": (
        {"type": "integer", "minimum": 0, "maximum": MOST_NEIGHBOURS, "default": 0},
        "Closest examples to list for each image; there are none unless the server was given a folder of them.",
    ),
    "picture": ({"type": "boolean", "default": False}, "Add the picture that the model saw to each image."),
}
"""Query parameters: their schema, and what they say."""
REFUSALS = {
    400: "A form that is damaged, holds something else than images, or none; a parameter that cannot be; another Host.",
    403: "The request came from a page of another origin.",
    413: f"More than {MOST_IMAGES} images or {MOST_BYTES // 10**6} MB in one request.",
    415: "Another kind of body than multipart/form-data.",
    500: "An error that nobody foresaw.",
}
"""Status of requests that are not answered at all, and why."""


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    _, schemas = models_json_schema(
        [(Answer, "serialization"), (Refusal, "serialization")], ref_template="#/components/schemas/{model}"
    )
    files = {
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_IMAGES,
        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
    }
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: files}, "additionalProperties": False}
    return {
        "openapi": "3.1.0",
        "info": {"title": "SecFPP local page", "version": __version__, "description": "Classifies images."},
        "servers": [{"url": "/"}],
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "Classify images with one client's prompt.",
                    "description": "A file that is no image gets an error of its own, and the others are answered.",
                    "parameters": [
                        {"name": name, "in": "query", "required": False, "description": said, "schema": schema}
                        for name, (schema, said) in PARAMETERS.items()
                    ],
                    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
                    "responses": {
                        "200": _response("An answer for each image, in order.", "Answer"),
                        **{str(status): _response(why, "Refusal") for status, why in REFUSALS.items()},
                    },
                }
            }
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _response(description: str, model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
