"""What every command shares: how it starts, what it prints, where its results are."""
