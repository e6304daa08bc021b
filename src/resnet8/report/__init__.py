"""Results in, text out. Every number in a table or a document comes from here."""
