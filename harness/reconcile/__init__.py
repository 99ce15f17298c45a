"""The ledger against books: breaks and statements as values."""
