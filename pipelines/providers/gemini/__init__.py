"""The provider Gemini, called by its REST API."""
