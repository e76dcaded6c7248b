"""Training and measuring the embedded models; see `scripts/train_embedded.py`."""
