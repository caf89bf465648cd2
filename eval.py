"""Score checkpoints or captions: `python eval.py checkpoint=PATH data.split=test search=beam`."""

from autocaption.commands.eval import main

if __name__ == "__main__":
    main()
