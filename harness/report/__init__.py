"""Results to look at and to hand on: stored evidence as an HTML page, as a comparison, and as machines' formats."""
