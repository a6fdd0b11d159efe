"""Which runs share a stack, how wide stacks are and how long they take. No torch."""
