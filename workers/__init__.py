"""The layer that may use both database rows and pictures: processes, claim loop, gate, operations, command line."""
