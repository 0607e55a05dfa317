"""Parts of ``tools/quickstart.py``: data, weights, training, pictures."""
