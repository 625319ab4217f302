"""What `gzmqsource.Source` is made of."""
