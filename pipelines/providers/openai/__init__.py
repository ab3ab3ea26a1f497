"""The provider openai, called by an OpenAI-compatible images API."""
