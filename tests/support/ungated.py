"""A provider as stages use it, without a gate between preparing a call and sending it."""


class Ungated:
    def __init__(self, provider):
        self.provider = provider
        self.is_paid = provider.is_paid

    async def analyze(self, *arguments):
        return await (await self.provider.prepare_analysis(*arguments))(let_through)

    async def generate(self, *arguments):
        return await (await self.provider.prepare_generation(*arguments))(let_through)


async def let_through():
    """Admit the call without a look."""
