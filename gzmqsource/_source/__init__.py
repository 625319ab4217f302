"""The parts of `gzmqsource.Source`."""
