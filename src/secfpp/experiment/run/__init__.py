"""Running experiments: methods on seeds, in workers or on several machines, within the memory there is."""
