MOST_LAYERS = 100  # building a mistyped number of layers would fill the memory
