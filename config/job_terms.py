"""What every job has to keep to, whoever submits it: SQL and Python both have it from here."""

import re
from typing import Final

DEFAULT_QUEUE: Final = "default"
"""The queue that every job enters; nothing puts one into another yet."""

MAX_PROMPT_CHARS: Final = 8_000

MAX_ID_CHARS: Final = 200
"""Of an encoded id in a key; a longer one stands as its hash. An id of 200 bytes that needs no encoding stays."""

MAX_READ_KEY_BYTES: Final = 1_024
"""Amazon S3 User Guide, "Naming Amazon S3 objects", read 2026-11: a key is at most this long in UTF-8."""

MAX_URL_CHARS: Final = 2_000
"""Of the URL of an input."""

PORTS: Final = (80, 443)
"""The ports from which inputs are fetched."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What may be a model's name."""

MAX_EVIDENCE_CHARS: Final = 500
"""Of what another program sent, error_logs keeps so much."""

LEAST_SIZE_FRACTION: Final = 0.9
"""Of the long side asked for: models round to multiples of 16 pixels, and none of them by a tenth."""
