"""The provider of tests: it gives the answers that a test sets, and passes the contract suite as all providers do."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial

from PIL import Image

from pipelines.analysis import Analysis, Defects
from pipelines.errors import MissedRequestError
from pipelines.providers import registry
from pipelines.providers.calls import Answer, PreparedCall, Usage, forget
from pipelines.providers.description import ProviderDescription
from pipelines.providers.local.description import LOCAL
from pipelines.providers.provider import EncodedImage, Quote
from pipelines.providers.remote import unsent

SCRIPTED = ProviderDescription(
    name="scripted",
    opens="tests.support.scripted_provider:open_scripted",
    analyzes=True,
    models=("scripted-1",),
    prices={"scripted-1/1K": 0.25},
)
UNHARMED = Defects(
    is_dark=False,
    is_blurry=False,
    has_noise=False,
    is_low_resolution=False,
    is_overexposed=False,
    has_color_cast=False,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was prepared; `prepare` prepares it once more."""

    purpose: str
    images: Sequence[EncodedImage]
    prepare: Callable[[], Awaitable[PreparedCall]] = field(repr=False)
    prompt: object = None
    long_side_px: int = 0
    aspect: float | None = None


class ScriptedProvider:
    """Its calls end as scripts say, one entry for each call, of which the last stays.

    An entry that is an error is raised, once the call is sent; bytes are a picture; None is what a good model answers;
    a function is given the call, and what it returns (or awaits) is any of these, or a whole Answer.
    """

    def __init__(
        self,
        *script,
        analyses=(None,),
        name=SCRIPTED.name,
        model="scripted-1",
        is_paid=True,
        cost_usd=Decimal("0.25"),
        preparing=None,
        connecting=None,
        note=None,
    ):
        """Keep what a test says.

        Args:
            script: how generations end.
            analyses: how analyses end.
            name: as in PROVIDER, of a registered provider.
            model: the only one that it has.
            is_paid: a call can cost money.
            cost_usd: of one call.
            preparing: awaited with each call that is prepared.
            connecting: awaited before a call's last look at the gate.
            note: told `analyze` or `generate` of each call that is sent, and `generated` of each picture.
        """
        self.name, self.model, self.is_paid = name, model, is_paid
        self._scripts = {"generate": list(script) or [None], "analyze": list(analyses)}
        self._cost_usd = cost_usd if is_paid else Decimal(0)
        self._preparing, self._connecting, self._note = preparing, connecting, note or (lambda _what: None)
        self.calls: list[Call] = []

    @property
    def sent(self):
        """How many calls were sent."""
        return len(self.calls)

    @property
    def identity(self):
        return self.model

    def quote_analysis(self, _options):
        return Quote(self.model, self._cost_usd)

    def quote_generation(self, _prompt, _long_side_px):
        return Quote(self.model, self._cost_usd, images=1)

    async def prepare_analysis(self, image, options):
        return await self._prepare(Call("analyze", [image], partial(self.prepare_analysis, image, options)))

    async def prepare_generation(self, prompt, images, long_side_px, aspect):
        again = partial(self.prepare_generation, prompt, images, long_side_px, aspect)
        return await self._prepare(Call("generate", images, again, prompt, long_side_px, aspect))

    async def check(self):
        """Find nothing wrong."""

    async def aclose(self):
        """Close nothing."""

    async def _prepare(self, call):
        if self._preparing:
            await self._preparing(call)

        async def send(look_again, came=forget):
            if self._connecting:
                await self._connecting()
            with unsent():
                await look_again()
            self.calls.append(call)
            self._note(call.purpose)
            script = self._scripts[call.purpose]
            end = script.pop(0) if len(script) > 1 else script[0]
            while callable(end):
                end = end(call)
                end = await end if isinstance(end, Awaitable) else end
            if isinstance(end, BaseException):
                if isinstance(end, MissedRequestError):  # found by the look at a picture that had come
                    came(self._answer(call, None))
                raise end
            if isinstance(end, Answer):
                return end
            return self._answer(call, end)

        return send

    def _answer(self, call, picture):
        if call.purpose == "analyze":
            analysis = Analysis(defects=UNHARMED, source=self.model)
            return Answer(analysis, self.model, Usage(cost_usd=self._cost_usd))
        self._note("generated")
        data = grey(call.long_side_px, call.aspect) if picture is None else picture
        return Answer(EncodedImage(data), self.model, Usage(images=1, cost_usd=self._cost_usd), temperature=0.4)


def grey(long_side_px, aspect=None):
    """Return a grey picture of a long side and a ratio, as JPEG. Pillow makes it, so that workers import no more."""
    ratio = aspect or 1.0
    width, height = (1.0, 1 / ratio) if ratio >= 1 else (ratio, 1.0)
    size = max(1, round(long_side_px * width)), max(1, round(long_side_px * height))
    file = io.BytesIO()
    Image.new("RGB", size, (128, 128, 128)).save(file, "JPEG", quality=95)
    return file.getvalue()


def echo(call):
    """Answer with the picture that was sent."""
    return call.images[0].data


def asking_again(error_type, words):
    """Make an entry that fails and asks for another try at once."""

    def fail(call):
        error = error_type(words)
        error.again = call.prepare
        return error

    return fail


def lasting(seconds):
    """Make an entry that takes its time and then answers."""

    async def wait(_call):
        await asyncio.sleep(seconds)

    return wait


def open_scripted(_settings, _pixels, _limits):
    """Open it as the registry opens providers."""
    return ScriptedProvider()


def stand_in(opens):
    """Let what this opens stand in for the local engine in this process, and be known by its own name."""
    registry.PROVIDERS |= {LOCAL.name: replace(LOCAL, opens=opens), SCRIPTED.name: SCRIPTED}
