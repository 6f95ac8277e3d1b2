"""Loop nests -> LLVM IR -> machine code."""
