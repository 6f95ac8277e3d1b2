"""`python -m fml` is the command `fml`."""

import sys

from fml.cli import main

sys.exit(main())
