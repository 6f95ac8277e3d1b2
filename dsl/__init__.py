"""Text -> graph: the language, from characters to the graphs that the engine trains."""
