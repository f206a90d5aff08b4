"""Power cuts at every moment of a real store's life, made from a record of all that it wrote."""
