"""The part of the language that is written in it."""
