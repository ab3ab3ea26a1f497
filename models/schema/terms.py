"""Values of config that SQL templates use, by the names under which templates ask for them."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Final

from config.address_terms import NAT64, PUBLIC_IPV6, REFUSED_IPV4, REFUSED_IPV6
from config.fair_terms import HEAD_START_TOKENS, WEIGHTS
from config.gate_terms import (
    BREAKER_FAILURES,
    BREAKER_S,
    FIRST_CONCURRENT,
    MOST_CONCURRENT,
    OTHER_ZONE,
    WARNING_FRACTION,
)
from config.job_terms import (
    DEFAULT_QUEUE,
    LEAST_SIZE_FRACTION,
    LONE_STAGES,
    MAX_ID_CHARS,
    MAX_PROMPT_CHARS,
    MAX_READ_KEY_BYTES,
    MAX_URL_CHARS,
    MODEL_NAME,
    PORTS,
    STAGES,
)
from config.periodic_terms import ALLOWANCES_TOKENS, DRIP_AMOUNT_TOKENS, DRIP_INTERVAL_S
from config.pipeline_rules import RULES, Defect, Rule
from config.tiers import DEFAULT_TIER, LONG_SIDE_PX, PRICES_TOKENS, Tier
from models.job_tables.rendering import listed, quoted


def _rule(number: int, rule: Rule) -> str:
    """Return a rule as a row of VALUES; the first row also casts, which sets the columns' types."""
    cast = "::numeric" if number == 1 else ""
    bounds = ", ".join("NULL" + cast if bound is None else str(bound) + cast for bound in (rule.least, rule.most))
    return f"({number}, {quoted(rule.path)}, {quoted(rule.type)}, {bounds})"


def _networks(texts: Iterable[str]) -> str:
    """Return networks as an SQL array, in lines of up to 110 characters."""
    lines = textwrap.wrap(", ".join(texts), 110)
    return quoted("{" + "\n          ".join(lines) + "}") + "::inet[]"


KEPT_PLANS: Final = """SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off
SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off"""
"""The settings of functions that work in sets and whose plans a session keeps.

Planning a function's statements anew takes longer than their work for one job. A plan that is kept may have been made
for an empty table and must be right for ten thousand rows nevertheless. So such functions read tables by the values
of an array (`= ANY (ids)`), for which these settings leave only the index, and join nothing but arrays, by hashing.
"""

TERMS: Final[Mapping[str, str]] = {
    "kept plans": KEPT_PLANS,
    "default queue": quoted(DEFAULT_QUEUE),
    "stages": listed(STAGES),
    "lone stages": listed(LONE_STAGES),
    "last stage": quoted(STAGES[-1]),
    "weights": quoted(json.dumps(dict(WEIGHTS))),
    "head start": str(HEAD_START_TOKENS),
    "most prompt chars": str(MAX_PROMPT_CHARS),
    "most prompt chars in words": f"{MAX_PROMPT_CHARS:,}",
    "most id chars": str(MAX_ID_CHARS),
    "most key bytes": str(MAX_READ_KEY_BYTES),
    "most key bytes in words": f"{MAX_READ_KEY_BYTES:,}",
    "most url chars": str(MAX_URL_CHARS),
    "most url chars in words": f"{MAX_URL_CHARS:,}",
    "ports": ", ".join(map(str, PORTS)),
    "ports in words": " and ".join(map(str, PORTS)),
    "refused networks": _networks(REFUSED_IPV4),
    "public long networks": _networks((PUBLIC_IPV6, NAT64)),
    "refused long networks": _networks(REFUSED_IPV6),
    "model name": quoted(f"^{MODEL_NAME.pattern}$"),
    "least size fraction": str(LEAST_SIZE_FRACTION),
    "pipeline rules": ",\n".join(_rule(number, rule) for number, rule in enumerate(RULES, start=1)),
    "defects": listed(Defect),
    "free tier": quoted(Tier.FREE),
    "default tier": quoted(DEFAULT_TIER),
    "long sides": " ".join(f"WHEN {quoted(tier)} THEN {px}" for tier, px in LONG_SIDE_PX.items()),
    "default long side": str(LONG_SIDE_PX[DEFAULT_TIER]),
    "prices": quoted(json.dumps(dict(PRICES_TOKENS))),
    "allowances": ", ".join(f"({quoted(tier)}, {tokens})" for tier, tokens in ALLOWANCES_TOKENS.items()),
    "drip interval": str(DRIP_INTERVAL_S),
    "drip amount": str(DRIP_AMOUNT_TOKENS),
    "first concurrent": str(FIRST_CONCURRENT),
    "most concurrent": str(MOST_CONCURRENT),
    "breaker failures": str(BREAKER_FAILURES),
    "breaker seconds": str(BREAKER_S),
    "warning fraction": str(WARNING_FRACTION),
    "zone": quoted(OTHER_ZONE),
}
