"""What people look at: a run's own records here, many runs in ``page``, strategies on one network in ``replay``."""
