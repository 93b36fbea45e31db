"""The inventory, a file for each paper and for each kind of item beyond the papers."""
