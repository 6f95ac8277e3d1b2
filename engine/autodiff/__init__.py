"""Gradients: graph to graph, before the passes."""

from fml.engine.autodiff.expand import expand_gradients

__all__ = ["expand_gradients"]
