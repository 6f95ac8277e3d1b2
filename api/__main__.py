"""`python -m fml` is the command `fml`."""

from fml.cli import run

run()
