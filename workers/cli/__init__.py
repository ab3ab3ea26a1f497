"""The command line: it parses, calls operations and renders; it decides nothing about jobs."""
