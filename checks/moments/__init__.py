"""Each public call at each odd moment: nothing is torn, doubled, lost or deaf."""
