"""The folder of a run: its files, who may write them, and what is read back from them."""
