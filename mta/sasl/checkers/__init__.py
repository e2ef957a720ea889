"""Password stores as checkers of twisted.cred, one file each, and the chain that asks them in order."""
