"""A Gemini to develop and test against: a real HTTP server that Google's own SDK accepts."""
