"""The grammar of the language, and the tables made of it."""
