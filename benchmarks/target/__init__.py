"""Who trains LeNet to a wanted accuracy, and how long that takes: see `time_to_accuracy.py`."""
