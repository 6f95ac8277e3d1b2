"""Graph -> training: everything below the language. Never imports `fml.dsl`."""

import time

# Sources that are newer than this may not be what runs here.
IMPORTED = time.time()
