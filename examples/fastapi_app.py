"""A file service over HTTP: streamed upload and download, listing, deletion, presigned URLs.

    uvicorn examples.fastapi_app:app

It reads the configuration that CM_PLATFORM_CONFIG names, and without one keeps the objects under
./.cm_platform. Try it:

    curl -T cover.png -H 'X-Tenant: magazine' localhost:8000/files/press/cover.png
    curl -H 'X-Tenant: magazine' localhost:8000/files
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Request, Response, status
from fastapi.responses import JSONResponse, StreamingResponse

from cm_platform import (
    AsyncPlatform,
    AsyncStorage,
    PlatformError,
    Tenant,
)

STATUS: Mapping[str, int] = {
    "invalid_argument": status.HTTP_400_BAD_REQUEST,
    "not_found": status.HTTP_404_NOT_FOUND,
    "already_exists": status.HTTP_412_PRECONDITION_FAILED,
    "precondition_failed": status.HTTP_412_PRECONDITION_FAILED,
    "rate_limited": status.HTTP_503_SERVICE_UNAVAILABLE,
    "quota_exceeded": status.HTTP_507_INSUFFICIENT_STORAGE,
    "unavailable": status.HTTP_503_SERVICE_UNAVAILABLE,
    "deadline_exceeded": status.HTTP_504_GATEWAY_TIMEOUT,
    "unsupported": status.HTTP_501_NOT_IMPLEMENTED,
    # permission_denied and unauthenticated are between us and the store: no fault of the caller.
}


def create_app(config: Mapping[str, Any] | str | None = None) -> FastAPI:
    """The application. config: a file or a mapping; None for CM_PLATFORM_CONFIG, or embedded."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        embedded = config is None and "CM_PLATFORM_CONFIG" not in os.environ
        async with AsyncPlatform.from_config(config, embedded=embedded) as platform:
            app.state.platform = platform
            yield

    app = FastAPI(title="Files", lifespan=lifespan)
    app.add_exception_handler(PlatformError, on_platform_error)
    app.put("/files/{key:path}", status_code=status.HTTP_201_CREATED)(upload)
    app.get("/files/{key:path}", response_class=StreamingResponse)(download)
    app.delete("/files/{key:path}", status_code=status.HTTP_204_NO_CONTENT)(delete)
    app.get("/files")(listing)
    app.post("/presigned/{key:path}")(presign)
    return app


async def on_platform_error(request: Request, error: Exception) -> Response:
    """Every error of the library, once, instead of a try block in each route."""
    assert isinstance(error, PlatformError)
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
    code = STATUS.get(error.code, status.HTTP_500_INTERNAL_SERVER_ERROR)
    # Which store answered what is for the logs; a caller gets the code, and a message only
    # where it is about what the caller asked.
    message = error.message if code < 500 or code == status.HTTP_501_NOT_IMPLEMENTED else None
    return JSONResponse({"code": error.code, "message": message}, code, headers=headers)


async def tenant_storage(request: Request, x_tenant: Annotated[str, Header()]) -> AsyncStorage:
    """The storage of whoever calls.

    The header stands for your authentication: take the tenant from a token that you have
    verified, never from what a browser says.
    """
    platform: AsyncPlatform = request.app.state.platform
    return platform.get_service("storage", Tenant(x_tenant))


Storage = Annotated[AsyncStorage, Depends(tenant_storage)]


async def upload(
    key: str,
    request: Request,
    storage: Storage,
    if_none_match: Annotated[Literal["*"] | None, Header()] = None,
) -> dict[str, Any]:
    """Store the request's body as it comes in. `If-None-Match: *` never overwrites."""
    info = await storage.put(
        key,
        request.stream(),
        content_type=request.headers.get("content-type"),
        if_none_match=if_none_match,
    )
    return {"key": info.key, "size": info.size, "etag": info.etag, "sha256": info.sha256}


async def download(key: str, storage: Storage) -> StreamingResponse:
    """Stream an object; memory holds a few pieces of it, whatever its size."""
    stored = await storage.get(key)
    headers = {
        "Content-Length": str(stored.info.size),
        "ETag": f'"{stored.info.etag}"',
        # What somebody uploaded must not run as a page of ours.
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }

    async def pieces() -> AsyncIterator[bytes]:
        # Closed when it is through, and when the caller goes away.
        async with stored:
            async for chunk in stored.chunks():
                yield chunk

    return StreamingResponse(pieces(), media_type=stored.info.content_type, headers=headers)


async def listing(
    storage: Storage, prefix: str = "", cursor: str | None = None, limit: int = 100
) -> dict[str, Any]:
    """One page. The cursor is signed, and worthless to another tenant."""
    page = await storage.list_page(prefix, limit=limit, cursor=cursor)
    return {
        "objects": [
            {"key": found.key, "size": found.size, "modified": found.last_modified}
            for found in page.objects
        ],
        "cursor": page.cursor,
    }


async def delete(
    key: str, storage: Storage, if_match: Annotated[str | None, Header()] = None
) -> None:
    """Remove an object. `If-Match` removes only the version that the caller has seen."""
    await storage.delete(key, if_match=None if if_match is None else if_match.strip('"'))


async def presign(
    key: str, storage: Storage, method: Literal["GET", "PUT"] = "GET", expires_in: int = 600
) -> dict[str, Any]:
    """A URL for direct access; 501 where the backend has none, such as a local directory."""
    signed = await storage.presign(key, method, expires_in=expires_in)
    return {"method": signed.method, "url": signed.url, "headers": dict(signed.headers)}


app = create_app()
