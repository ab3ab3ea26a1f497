"""Providers, which analyze and make pictures: the local engine, Gemini, OpenAI-compatible services."""
