"""Trains the demo model from nothing: `python -m ti_engine.demo.build`. Not part of the node pack's archive."""
