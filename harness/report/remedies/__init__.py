"""A table of remedies for people: lines for a terminal, Markdown, a page with a drawing."""
