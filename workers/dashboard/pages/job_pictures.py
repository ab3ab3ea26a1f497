"""The pictures of a job, made anew: what it works on, and what it has made."""

from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from workers.dashboard.pages.job import job_name
from workers.dashboard.state import dashboard_of
from workers.operations.errors import InvalidInputError, NotFoundError
from workers.operations.job_pictures import NoPictureError, PictureUnavailableError, Side

HEADERS: Final = {"Cache-Control": "private"}
MOST_DIGITS: Final = 3


async def _before(request: Request) -> Response:
    return await _picture(request, "before")


async def _after(request: Request) -> Response:
    return await _picture(request, "after")


async def _picture(request: Request, side: Side) -> Response:
    given = request.query_params.get("n", "1")
    number = int(given) if given.isascii() and given.isdigit() and len(given) <= MOST_DIGITS else 0
    try:
        data = await dashboard_of(request).previews.picture(job_name(request), side, number)
    except (NotFoundError, InvalidInputError) as error:
        return PlainTextResponse(f"{error}\n", 404, HEADERS)
    except NoPictureError as error:
        return PlainTextResponse(f"{error}\n", 415, HEADERS)
    except PictureUnavailableError as error:
        return PlainTextResponse(f"{error}\n", 503, HEADERS)
    return Response(data, media_type="image/jpeg", headers=HEADERS)


ROUTES: Final = [Route("/jobs/{id}/before", _before), Route("/jobs/{id}/after", _after)]
