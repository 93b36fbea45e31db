"""A consistency model over continuous deltas: noise levels, network, consistency function, world model."""
