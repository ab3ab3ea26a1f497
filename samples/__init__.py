"""Five photographs that anyone may use, each damaged in another way; see README.md."""
