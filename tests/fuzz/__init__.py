"""Whatever somebody hands the harness: made from its own types and grammars, and bytes that a fuzzer finds."""
