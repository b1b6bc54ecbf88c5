"""A diagnosis for people: lines for a terminal, Markdown, a page."""
