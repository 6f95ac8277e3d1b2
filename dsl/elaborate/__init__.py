"""Syntax -> graph: evaluates declarations and plans over types and static values."""
