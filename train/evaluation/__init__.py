"""Scoring by the field's protocols: what is measured, on what, and what the numbers say."""
