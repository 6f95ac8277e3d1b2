"""Operations: one record each, one file a family, put together in `table.py`."""
