"""Graph -> plan: order, memory, streams, races."""
