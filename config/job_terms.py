"""Limits that hold for every job, whichever way it was submitted. Python and the SQL functions both use them."""

import re
from typing import Final

DEFAULT_QUEUE: Final = "default"
"""The queue of all stages for which DARKROOM_STAGE_QUEUES names no other one."""

STAGES: Final = ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING")
"""The stages of all job types that make pictures, in their order: a type has some of them, the last one always."""

LONE_STAGES: Final = ("CALLING",)
"""The stages of job types that have no other one, because they make no picture."""

MAX_PROMPT_CHARS: Final = 8_000

MAX_ID_CHARS: Final = 200
"""The longest encoded id, in characters, that an object's key contains. For a longer id the key contains its hash."""

MAX_READ_KEY_BYTES: Final = 1_024
"""Longest key of an object in UTF-8. Source: Amazon S3 User Guide, "Naming Amazon S3 objects", read 2026-11."""

MAX_URL_CHARS: Final = 2_000
"""Longest URL of a job's input, in characters."""

PORTS: Final = (80, 443)
"""The ports from which inputs are fetched."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""The form that the name of a provider's model must have."""

MAX_EVIDENCE_CHARS: Final = 500
"""Error logs keep at most this many characters of a text that another program sent."""

LEAST_SIZE_FRACTION: Final = 0.9
"""The smallest long side of an answer, as a fraction of the long side asked for.

Models round sizes to multiples of 16 pixels; no known model rounds down by a tenth.
"""
