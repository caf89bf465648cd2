"""Score a checkpoint: `python eval.py checkpoint=PATH data.split=test search=beam search.beam_size=5`."""

from autocaption.commands.eval import main

if __name__ == "__main__":
    main()
