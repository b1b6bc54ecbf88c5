"""A machine's own files: one typed picture of what they say, and where each thing stands."""
