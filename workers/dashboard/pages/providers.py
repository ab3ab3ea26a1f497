"""The page Providers: whether each may be called, budgets, costs, and the kill switch."""

from typing import Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.dashboard.actions import Action, Done, action_routes
from workers.dashboard.pages.steering import pause_routes
from workers.dashboard.rendering import page
from workers.dashboard.state import dashboard_of
from workers.operations.costs import set_buying
from workers.operations.providers import COST_DAYS, providers_now
from workers.presentation.steering import buying_words

BACK: Final = "/providers"


async def _providers(request: Request) -> Response:
    shown = await dashboard_of(request).once("providers", providers_now)
    return page(request, "providers.html", name="Providers", shown=shown, cost_days=COST_DAYS)


def _switch(path: str, *, is_stopped: bool) -> list[Route]:
    async def offer(_request: Request) -> Action:
        if is_stopped:
            sentences = ("No paid call is made any more, and jobs that need one wait. Calls in flight are finished.",)
            return Action("Stop buying", sentences, back=BACK)
        return Action("Resume buying", ("Paid calls are made again.",), back=BACK)

    async def carry_out(request: Request, _form: FormData, reason: str | None) -> Done:
        actor = request.state.operator.name
        await set_buying(dashboard_of(request).runtime, is_stopped=is_stopped, actor=actor, reason=reason)
        return Done(BACK, buying_words(is_stopped=is_stopped))

    return action_routes(path, offer, carry_out)


ROUTES: Final = [
    Route("/providers", _providers),
    *_switch("/buying/stop", is_stopped=True),
    *_switch("/buying/resume", is_stopped=False),
    *pause_routes("/providers"),
]
