"""A fake Gemini to develop and test against: a real HTTP server, with which Google's own SDK works."""
