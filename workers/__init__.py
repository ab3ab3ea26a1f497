"""Processes, in which database rows and pictures meet: claim loop, gate, scheduler, operations, command line."""
