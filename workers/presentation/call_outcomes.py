"""How a provider call ended, in plain words."""


def outcome_words(outcome: str) -> str:
    """Return how a call ended; `failed` if its record has an error's type instead. Other words name the error."""
    return "failed" if outcome.endswith("Error") else outcome
