"""What operators already have, read line by line: each kind of output has a reader, and is known by its content."""
