"""``python -m tutelage`` is the command line, also under ``torchrun -m``."""

from tutelage.cli import main

if __name__ == "__main__":
    main()
