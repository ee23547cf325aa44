"""The HTTP answers of a Service Center, and the broken ones of a faulty one.

A success without content is an empty text, everything else JSON, and what no route answers is plain text.
"""

import json

from aiohttp import web

from registry_status.registry.devserver.faults import Answer
from registry_status.registry.devserver.records import Json
from registry_status.registry.devserver.refusals import Refusal


def json_answer(value: Json, status: int = 200) -> web.Response:
    """JSON."""
    return json_text(json.dumps(value), status)


def json_text(text: str, status: int = 200) -> web.Response:
    """JSON that is text already."""
    return web.Response(status=status, body=text.encode(), content_type="application/json")


def done() -> web.Response:
    """Done, and nothing to tell: how writes, heartbeats and removals are acknowledged."""
    return web.Response(text="")


def refused(refusal: Refusal) -> web.Response:
    """An error in the registry's form."""
    body = refusal.code.body(refusal.detail)
    return web.Response(status=refusal.code.http_status, body=body, content_type="application/json")


def not_routed(error: web.HTTPException) -> web.Response:
    """A 404 or 405, which has no registry code: the request reached no handler."""
    allowed = error.headers.get("Allow")
    return web.Response(status=error.status, text=f"{error.reason}\n", headers={"Allow": allowed} if allowed else None)


def instead(answer: Answer) -> web.Response:
    """What a fault says."""
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def dropped(request: web.Request) -> web.Response:
    """Break the connection; the response, which a handler has to return, never gets out."""
    if request.transport is not None:
        request.transport.abort()
    return done()


async def truncated(request: web.Request, whole: web.StreamResponse, *, abrupt: bool) -> web.StreamResponse:
    """Send the first half of an answer; if `abrupt`, its length is promised in full and the connection broken."""
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
    half = body[: len(body) // 2]
    headers = {"Content-Type": whole.headers.get("Content-Type", "text/plain")}
    if not abrupt:
        return web.Response(status=whole.status, body=half, headers=headers)
    broken = web.StreamResponse(status=whole.status, headers=headers)
    broken.content_length = len(body) + 1
    await broken.prepare(request)
    await broken.write(half)
    if request.transport is not None:
        request.transport.close()
    return broken
