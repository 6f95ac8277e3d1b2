"""Pictures of graphs: Graphviz text, and files rendered from it."""
