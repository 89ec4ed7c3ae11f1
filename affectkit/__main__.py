"""``python -m affectkit`` is the program ``affectkit``."""

from affectkit.cli import main

if __name__ == "__main__":
    main()
