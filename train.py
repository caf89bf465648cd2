"""Train, then test on the best checkpoint: `python train.py --help`."""

from autocaption.commands.train import main

if __name__ == "__main__":
    main()
