"""Gradients: graph to graph, before the passes."""
