"""What is measured of an attention layer: `registry` is the list of it."""
