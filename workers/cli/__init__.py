"""The command line: it parses, calls operations and prints results; it decides nothing about jobs."""
