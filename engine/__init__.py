"""Graph -> training: everything below the language. Never imports `fml.dsl`."""
