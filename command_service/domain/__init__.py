"""What may happen and what follows from it: pure functions over commands, state and events, without I/O."""
