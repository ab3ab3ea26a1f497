"""All code that uses both database rows and pictures: processes, claim loop, gate, operations, command line."""
