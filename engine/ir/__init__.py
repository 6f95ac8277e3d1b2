"""Types, graphs and their text: the hand-over types that every stage of the engine shares."""
