"""Processes, which use both database rows and pictures: claim loop, gate, scheduler, operations, command line."""
