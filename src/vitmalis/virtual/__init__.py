"""The virtual clock: the same state machine, codec, tracker and detector, with time computed instead of waited for."""
