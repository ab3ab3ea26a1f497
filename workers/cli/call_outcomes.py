"""How a provider call ended, in plain words."""


def outcome_words(outcome: str) -> str:
    """Say how a call ended; its record has the error's type, which the call's problem says in plain words."""
    return "failed" if outcome.endswith("Error") else outcome
