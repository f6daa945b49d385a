"""The procedural talker: speech and a drawn face whose phoneme times are known exactly."""
