"""An OpenAI-compatible images API."""
