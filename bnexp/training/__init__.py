"""One stack from its initialization to its last step: batches, update, optimizer, clock, schedule."""
