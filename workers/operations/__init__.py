"""Operations, one function for each thing that an operator does; the command line parses, calls one, and prints."""
