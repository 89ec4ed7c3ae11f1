"""How the tuned part of FineCLIPER is made."""
