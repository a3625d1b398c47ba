"""Commands: each is a console script and a thin door to the library."""
