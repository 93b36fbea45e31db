"""Tables, figures and statistics from raw scores. Nothing here imports torch: figures redraw where nothing trains."""
