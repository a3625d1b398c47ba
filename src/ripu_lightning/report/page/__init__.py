"""The page of many runs: reads what runs recorded, compares them over seeds, and says which strategy and budget."""
