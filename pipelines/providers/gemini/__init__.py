"""Gemini over its REST API."""
