"""Definitions: the model, the one parser of the plain shape, and the canonical form."""
