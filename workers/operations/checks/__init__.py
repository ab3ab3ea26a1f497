"""What `darkroom doctor` looks at, one file by what is asked: rows, the database, and everything outside of it."""
