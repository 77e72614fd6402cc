"""One module per figure: its data, its drawing and its caption; a new module here is a new figure everywhere."""
